"""Sphinx: these pages as a site that opens without a network (`make docs`, then site/index.html)."""

import ast
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

project = "DiaBlo-repro"
author = "The DiaBlo-repro authors"

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
myst_heading_anchors = 3  # links to headings are checked too

# Docstrings are read from the source and nothing is imported: the site needs no torch. Only the packages that
# api.md shows are read.
autoapi_dirs = [str(ROOT / "diablo")]
autoapi_ignore = [
    f"*/diablo/{name}/*"
    for name in ("analysis", "audit", "claims", "estimate", "quantization", "report", "tables")
]
autoapi_generate_api_docs = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_use_rtype = False
highlight_language = "none"  # blocks without a language are commands and what they print
default_role = "code"  # docstrings write `name`
suppress_warnings = ["autoapi.python_import_resolution"]

html_theme = "furo"
html_title = "DiaBlo-repro"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False


def field_help(app: Sphinx) -> None:
    """Give the fields of DiabloConfig their `metadata` as docstrings: PEFT's configs say there what they mean."""
    config = app.env.autoapi_all_objects["diablo.tuner.config.DiabloConfig"]
    said = {}
    for node in ast.walk(ast.parse((ROOT / "diablo/tuner/config.py").read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
            given = {keyword.arg: keyword.value for keyword in node.value.keywords}
            if "metadata" in given:
                said[ast.unparse(node.target)] = ast.literal_eval(given["metadata"])["help"]
    for field in config.children:
        field.docstring = said.get(field.name, field.docstring)


def setup(app: Sphinx) -> None:
    # After autoapi has read the source.
    app.connect("builder-inited", field_help, priority=900)
