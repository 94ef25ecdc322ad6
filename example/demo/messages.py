"""A name for every message, made alike by those who send it and those who handle it.

It names what the message says and not a key that the database gave, so that a writer knows it
beforehand. A message that arrives altered has another name: it counts as lost, and as a ghost.
"""

import hashlib

Row = tuple[str, str]
"""What a row says: an author's name and bio, a post's title and content."""


def change(old: Row | None, new: Row | None) -> str:
    """Name the change of a row by what it said before and what it says now."""
    event = "insert" if old is None else "delete" if new is None else "update"
    digest = hashlib.sha256(repr((old, new)).encode()).hexdigest()[:16]
    title = (new or old or ("", ""))[0]
    return f"{event} {title[:40]} {digest}"


def tag(package: str, tag: str) -> str:
    """Name a tag."""
    return f"{package} is {tag}"
