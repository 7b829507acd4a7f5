"""Sphinx: these pages as a site that opens without a network (`make docs`, then site/index.html)."""

from pathlib import Path

project = "DiaBlo-repro"
author = "The DiaBlo-repro authors"

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]

myst_heading_anchors = 3  # links to headings are checked too

# Docstrings are read from the source and nothing is imported: the site needs no torch. Only the packages that
# api.md shows are read.
autoapi_dirs = [str(Path(__file__).parents[1] / "diablo")]
autoapi_ignore = [
    f"*/diablo/{name}/*"
    for name in ("analysis", "audit", "claims", "estimate", "quantization", "report", "tables")
]
autoapi_generate_api_docs = False
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"  # docstrings write `name`
suppress_warnings = ["autoapi.python_import_resolution"]

html_theme = "furo"
html_title = "DiaBlo-repro"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
