"""How Sphinx builds these pages: ``make docs``, then open docs/_build/html/index.html."""

import os
import sys
from importlib import metadata
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
django.setup()  # autodoc imports models

project = "pgpubsub_sql"
author = "The pgpubsub_sql authors"
copyright = author
release = metadata.version("pgpubsub-sql")
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pgpubsub_sql"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"

nitpicky = True
# Names of Python, Django and the drivers are documented elsewhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!pgpubsub_sql).*"),
    ("py:.*", r"pgpubsub_sql\.listeners\.(Callback|Reference)"),
]
