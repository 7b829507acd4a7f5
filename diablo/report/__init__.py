"""The project's own report: one page with all tables, figures, costs and the provenance of every run."""

from diablo.report.page import render_report

__all__ = ["render_report"]
