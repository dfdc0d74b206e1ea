"""The documentation site: `make docs` builds it from README.md, the pages and notebooks, and the docstrings.

Sphinx, because one generator renders Markdown, stored notebooks (myst-nb) and docstrings, warns about every link that
leads nowhere, and brings its own search. The theme is furo: light and dark, narrow and wide, with fonts of the reader's
system. The sources are read from the project's folder, so links are the same on the site and in the files.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from IPython.lib.lexers import IPython3Lexer

from hh_jupyter.version import VERSION

ROOT = Path(__file__).parents[2]

project = "hh_jupyter"
release = VERSION
copyright = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"] + " licence"
html_title = f"{project} {release}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# What is read

root_doc = "README"
include_patterns = [
    "README.md", "CHANGELOG.md", "notebooks/*.md", "notebooks/*.ipynb", "notebooks/site/api.rst",
    "jupyter-config/README.md", "hh_jupyter/README.md", "tests/README.md", "tests/contract/README.md",
]  # fmt: skip
exclude_patterns = [".*", "build", "dist", "demo-output", "screenshots", "**/node_modules", "tests/data"]
MANUAL = [path.stem for name in ("README.md", "[0-9]*.ipynb") for path in sorted((ROOT / "notebooks").glob(name))]
NAVIGATION = {
    "Manual": [f"notebooks/{name}" for name in MANUAL],
    "In detail": [
        "notebooks/notebook", "notebooks/spans", "notebooks/recordings", "notebooks/experiments",
        "notebooks/coding-agents", "notebooks/services", "notebooks/testing", "notebooks/from-honeyhive",
        "notebooks/troubleshooting",
    ],
    "Reference": ["notebooks/reference", "notebooks/site/api", "jupyter-config/README", "CHANGELOG"],
    "Contributing": ["tests/README", "tests/contract/README", "hh_jupyter/README"],
}  # fmt: skip
"""Heading of the navigation -> its pages in order. A page that is missing here is a warning, and so an error."""

# Markdown and notebooks

myst_heading_anchors = 4
myst_enable_extensions: list[str] = []  # No dollars as mathematics: they are amounts.
nb_execution_mode = "off"  # The notebooks are stored executed.
nb_ipywidgets_js: dict[str, Any] = {}  # Would be fetched from a network. Outputs are complete without it.
nb_merge_streams = True

# Docstrings

default_role = "code"  # Docstrings use single backticks.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False

# The pages

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
pygments_dark_style = "github-dark"
html_use_index = html_domain_indices = False  # The search finds names as well.
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def add_navigation(app: Any, docname: str, source: list[str]) -> None:
    """Put the navigation at the end of the first page, where a reader of README.md does not see it."""
    if docname == root_doc:
        trees = (
            "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {title}\n", *(f"/{page}" for page in pages), "```"])
            for title, pages in NAVIGATION.items()
        )
        source[0] = "\n\n".join([source[0], *trees])


def setup(app: Any) -> None:
    """Register what no setting does."""
    app.add_lexer("python", IPython3Lexer)  # Cells of notebooks have magics, whatever their metadata say.
    app.connect("source-read", add_navigation)
