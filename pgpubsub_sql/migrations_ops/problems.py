"""What is wrong, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """One difference between code, migrations and catalogue."""

    channel: str
    """Name of the channel in PostgreSQL; empty for what all of them share."""
    text: str
    """What is wrong."""
    remedy: str
    """What to do about it."""

    @property
    def sentence(self) -> str:
        """What is wrong, and with which channel."""
        return f"{self.channel} {self.text}.".lstrip()
