"""What JSON may hold and PostgreSQL's jsonb may not."""

from __future__ import annotations

import re

# JSON writes a backslash as two; an odd number of them before u0000 is the character itself.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def holds_nul(text: str) -> bool:
    """Whether the JSON *text* holds the character NUL, which no text of PostgreSQL can."""
    return "\\u0000" in text and _NUL.search(text) is not None
