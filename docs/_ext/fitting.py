"""Let pages fit a phone: long code may break, and cells carry the heading of their column.

On a narrow screen ``_static/tables.css`` stacks the cells of a row and shows the headings.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def label_cells(table: nodes.table) -> None:
    """Start each cell but the first of its row with the heading of its column, hidden if wide."""
    headings = [entry.astext() for head in table.findall(nodes.thead) for entry in head[0]]
    for body in table.findall(nodes.tbody):
        for row in body:
            for heading, entry in list(zip(headings, row, strict=True))[1:]:
                if heading and entry.astext():
                    entry[0].insert(0, nodes.inline("", f"{heading}: ", classes=["cell-label"]))


def allow_breaks(doctree: nodes.document) -> None:
    """Let code that does not fit a phone break after a comma or a bracket."""
    for literal in [one for one in doctree.findall(nodes.literal) if len(one.astext()) > 40]:
        first, *others = re.split(r"(?<=[,(])(?=.)", literal.astext())
        literal.children = []
        literal += nodes.Text(first)
        for part in others:
            literal += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]


def allow_breaks_in_titles(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let a long name in a title break after an underscore. Menus keep it whole."""
    for title in doctree.findall(nodes.title):
        for text in [one for one in title.findall(nodes.Text) if len(one) > 20 and "_" in one]:
            first, *others = re.split(r"(?<=_)", text)
            parts = [nodes.Text(first)]
            for part in others:
                parts += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]
            text.parent.replace(text, parts)


def prepare(app: Sphinx, doctree: nodes.document) -> None:
    """Prepare a page."""
    allow_breaks(doctree)
    for table in doctree.findall(nodes.table):
        label_cells(table)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-read", prepare)
    app.connect("doctree-resolved", allow_breaks_in_titles)
    return {"parallel_read_safe": True}
