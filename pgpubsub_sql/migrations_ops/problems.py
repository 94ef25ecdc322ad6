"""States of a channel's installation, and what to do about each."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from pgpubsub_sql.migrations_ops.recorded_triggers import Key, Triggers


class InstallState(enum.StrEnum):
    """How what is installed of a channel compares with what should be."""

    INSTALLED = "installed"
    """Function and triggers are as they would be installed now."""
    OUTDATED = "outdated"
    """The function or a trigger differs from what would be installed now."""
    MISSING = "missing"
    """The function, or a trigger on the model's table, does not exist."""
    TABLELESS = "tableless"
    """The model's table does not exist."""
    DISABLED = "disabled"
    """Installed, but somebody has disabled a trigger."""
    DENIED = "denied"
    """Installed, but a role lacks a privilege, so writes fail."""
    STALE = "stale"
    """Installed, but a column that it names is missing or has changed."""
    FOREIGN = "foreign"
    """Another project's channel has a function of this name."""
    LEFTOVER = "leftover"
    """This project has installed it and does not need it any more."""


DIAGNOSES = {
    InstallState.MISSING: (
        "has no trigger in the database, or not all of its triggers",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    InstallState.TABLELESS: (
        "watches a table that does not exist",
        "Create the table. Then run: python manage.py pgpubsub install {channel}{database}",
    ),
    InstallState.OUTDATED: (
        "is not installed as it should be: {reason}",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    InstallState.DISABLED: (
        "has a disabled trigger",
        "Run: python manage.py pgpubsub enable {channel}{database}",
    ),
    InstallState.STALE: (
        "names columns that are missing from its table or have changed there, so every row is sent "
        "whole: {reason}",
        "Change the channel's columns, watch or condition. Run: python manage.py makemigrations",
    ),
    InstallState.FOREIGN: (
        "needs a function name that belongs to {reason}",
        "Set another channel_name.",
    ),
    InstallState.LEFTOVER: (
        "is left over in the database: {reason}",
        "Run: python manage.py pgpubsub prune{database}",
    ),
}
"""For each state but INSTALLED and DENIED: what is wrong with the channel, and what to do."""


class Problem(NamedTuple):
    """One difference between code, migrations and database."""

    channel: str
    """Name of the channel in PostgreSQL; empty for what all channels share."""
    text: str
    """What is wrong."""
    remedy: str
    """What to do about it."""

    @property
    def sentence(self) -> str:
        """What is wrong, as a sentence that names the channel."""
        return f"{self.channel} {self.text}.".lstrip()


def missing_migrations(wanted: Triggers, written: Triggers) -> Iterator[Problem]:
    """Yield the channels for which makemigrations has something to write."""
    for label, channel in differing(wanted, written):
        if (label, channel) not in wanted:
            text = "has a trigger in the migrations that no listener needs any more"
        elif (label, channel) not in written:
            text = "has no migration yet"
        else:
            text = "is not installed by the migrations as the code declares it"
        yield Problem(channel, text, f"Run: python manage.py makemigrations {label}")


def differing(one: Triggers, other: Triggers) -> list[Key]:
    """Return the channels that are not the same in both, in order."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
