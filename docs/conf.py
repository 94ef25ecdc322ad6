"""How Sphinx builds these pages: ``make docs``, then open docs/_build/html/index.html."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import django

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
django.setup()  # autodoc imports models

project = "pgpubsub_sql"
author = "The pgpubsub_sql authors"
copyright = author
release = metadata.version("pgpubsub-sql")
language = "en"
smartquotes_action = "qe"  # and no dashes: --drain stays --drain

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "figures", "fitting"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pgpubsub_sql"
html_static_path = ["_static"]
html_css_files = ["tables.css", "figures.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# Commands are copied without prompts and output. What is output alone has no button.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

nitpicky = True
# Names of Python, Django and the drivers are documented elsewhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!pgpubsub_sql).*"),
    ("py:.*", r"pgpubsub_sql\.(listeners\.(Callback|Reference)|testing\.messages\.[CD])"),
    ("py:.*", r"pgpubsub_sql\.(batches\.[CR]|rows\.row_change\.Row)"),
]


def find_error(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve the name of an error that a docstring gives without its module."""
    if node.get("refdomain") != "py":
        return None
    name, python = f"pgpubsub_sql.errors.{node['reftarget']}", env.domains["py"]
    return python.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], name, node, content
    )


def setup(app: Any) -> None:
    """Connect to Sphinx."""
    app.connect("missing-reference", find_error)
