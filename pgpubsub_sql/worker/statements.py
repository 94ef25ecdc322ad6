"""What the text of a statement tells before it is executed."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 10_000
"""Longer texts, in characters, are not looked at, nor remembered."""
MOST_PROVEN = 1000
"""Number of texts that are remembered."""

_ORDINARY = re.compile(r"\s*(INSERT|UPDATE|DELETE|SELECT|WITH)\b", re.IGNORECASE)
_SAVEPOINT = re.compile(r'(RELEASE |ROLLBACK TO )?SAVEPOINT "\w+"')
"""As Django issues it."""
_INSERTS = re.compile(r'INSERT INTO ("(?:[^"]|"")+"\.)?"(?:[^"]|"")+" \(')
_BEFORE_PARENTHESIS = re.compile(r'([\w"$.]+)\s*\(')
_KEYWORDS = frozenset(
    {
        *("ALL", "AND", "ANY", "AS", "BY", "CASE", "CONFLICT", "DISTINCT", "ELSE", "EXISTS"),
        *("FILTER", "FROM", "HAVING", "IN", "JOIN", "NOT", "ON", "OR", "OVER", "SELECT", "SET"),
        *("THEN", "UNION", "USING", "VALUES", "WHEN", "WHERE", "WITH"),
        *("AVG", "COALESCE", "COUNT", "LOWER", "MAX", "MIN", "SUM", "UNNEST", "UPPER"),
    }
)
"""Words that may stand before a parenthesis: keywords, and functions that change no setting."""

_proven: dict[str, None] = {}


@lru_cache(MOST_PROVEN)
def changes_no_setting(text: str) -> bool:
    """Whether *text* is a plain query, which can change a setting by a trigger or a rule only.

    That is what the ORM executes as a rule: it calls no function but PostgreSQL's plainest.
    """
    if _SAVEPOINT.fullmatch(text):
        return True
    if not _ORDINARY.match(text) or ";" in text or "pg_settings" in text.lower():
        return False
    words = _BEFORE_PARENTHESIS.findall(_INSERTS.sub("", text, count=1))
    return _KEYWORDS.issuperset(map(str.upper, words))


def is_proven(text: str) -> bool:
    """Whether *text* can be parsed: it has succeeded before, or is one of Django's savepoints."""
    return text in _proven or bool(_SAVEPOINT.fullmatch(text))


def note_success(text: str) -> None:
    """Note that *text* has succeeded."""
    if text not in _proven and len(text) <= LONGEST and _ORDINARY.match(text):
        if len(_proven) >= MOST_PROVEN:
            _proven.clear()
        _proven[text] = None


def note_failure(text: str) -> None:
    """Forget that *text* has ever succeeded."""
    _proven.pop(text, None)
