"""How the catalogue may differ from what should be installed, and what to do about it."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """How the catalogue stands to what should be installed."""

    INSTALLED = "installed"
    """All of it, as it would be installed now."""
    OUTDATED = "outdated"
    """Function or triggers are not as they would be installed now."""
    MISSING = "missing"
    """The function is not there, or not all of its triggers on the model's table."""
    TABLELESS = "tableless"
    """There is no table that could have its triggers."""
    DISABLED = "disabled"
    """All of it, but somebody has disabled a trigger."""
    DENIED = "denied"
    """All of it, but a role lacks a privilege, so that writes fail."""
    STALE = "stale"
    """All of it, but the columns that it names are not there, or not as it needs them."""
    FOREIGN = "foreign"
    """The function's name is taken by a channel of another project."""
    LEFTOVER = "leftover"
    """A migration of this project has made it, and nothing asks for it any more."""


ASTRAY = {
    State.MISSING: (
        "has no trigger in the database, or not all of its triggers",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    State.TABLELESS: (
        "watches a table that is not there",
        "Make the table. Then run: python manage.py pgpubsub install {channel}{database}",
    ),
    State.OUTDATED: (
        "is not installed as it should be: {reason}",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    State.DISABLED: (
        "has a disabled trigger",
        "Run: python manage.py pgpubsub enable {channel}{database}",
    ),
    State.STALE: (
        "names columns that its table lacks or has changed, so every row is sent whole: {reason}",
        "Change the channel's columns, watch or condition. Run: python manage.py makemigrations",
    ),
    State.FOREIGN: (
        "needs the name of a function that belongs to {reason}",
        "Set another channel_name.",
    ),
    State.LEFTOVER: (
        "is left over in the database: {reason}",
        "Run: python manage.py pgpubsub prune{database}",
    ),
}
"""What to say of each state but the right one, and what to do about it."""


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
