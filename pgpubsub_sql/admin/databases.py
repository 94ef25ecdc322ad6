"""What the page of channels shows, database by database."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import OperationalError, ProgrammingError, connections
from django.utils.translation import gettext as _

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.counting import Minutes, minutes
from pgpubsub_sql.errors import PubSubError
from pgpubsub_sql.inspection import (
    Holder,
    LongCall,
    StoredCounts,
    TableCare,
    declared,
    is_polled,
    long_calls,
    our_databases,
    stored_counts,
    stored_lanes,
    table_care,
)
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.known_channels import KnownChannels
from pgpubsub_sql.migrations_ops.problems import InstallState, Problem
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.readiness import place
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.time_limit import TookTooLong, limited

KNOWN_SECONDS = 10.0
"""For so long the page shows the same state of triggers. To compare all that is installed takes
several times as long as the rest of the page."""


class ListeningWorker(NamedTuple):
    """The session by which a worker listens."""

    pid: int
    name: str
    seconds: float
    """For how long it has been connected."""
    is_behind: bool
    """Whether the server waits to send it more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installation:
    """What is installed of the channels of a database."""

    states: Mapping[str, InstallState | None] = dataclasses.field(default_factory=dict)
    problems: Sequence[Problem] = ()
    """What ``verify`` says."""
    error: str = ""
    """Why nobody knows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelRow:
    """A channel of a database."""

    counts: StoredCounts
    state: InstallState | None
    """None if it has no trigger."""

    @property
    def name(self) -> str:
        return self.counts.lane.channel

    @property
    def subscription(self) -> str:
        return self.counts.lane.subscription

    @property
    def is_ephemeral(self) -> bool:
        channel = declared(self.name)
        return channel is not None and not channel.lock_notifications

    @property
    def is_polled(self) -> bool:
        channel = declared(self.name)
        return channel is not None and is_polled(channel)

    @property
    def has_listener(self) -> bool:
        channel = declared(self.name)
        return channel is not None and bool(registry.listeners_of(channel, self.subscription))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatabaseState:
    """What a database has stored, and who works on it."""

    channels: Sequence[ChannelRow]
    long_calls: Sequence[LongCall]
    workers: Sequence[ListeningWorker]
    listeners: Sequence[Minutes]
    """What listeners did lately."""
    care: TableCare

    @property
    def in_flight(self) -> list[tuple[Lane, Holder]]:
        """Who has messages of which subscription in flight, the longest first."""
        found = [(row.counts.lane, one) for row in self.channels for one in row.counts.holders]
        return sorted(found, key=lambda one: -(one[1].seconds or 0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Database:
    """A database that should have our tables."""

    alias: str
    stored: DatabaseState | None = None
    installation: Installation = dataclasses.field(default_factory=Installation)
    error: str = ""
    """Why nothing is known about it."""


def read_databases() -> Iterator[Database]:
    """Yield what is known of each database that has our tables, or that cannot be asked."""
    for alias in our_databases():
        try:
            found = _read(alias)
        except TookTooLong:
            found = Database(alias=alias, error=_("A statement took longer than five seconds."))
        except OperationalError as error:
            found = Database(alias=alias, error=str(error))
        if found:
            yield found


def _read(alias: str) -> Database | None:
    with limited(alias):
        ((has_table,),) = _rows(alias, "has_table")
        here = place(connections[alias])
    if not has_table:
        return None
    installation = _installation(alias, here)
    with limited(alias):
        return Database(alias=alias, stored=_stored(alias, installation), installation=installation)


_known: dict[tuple[str, str], tuple[float, Installation]] = {}
"""What was installed, by alias and place, and when that was found out by the monotonic clock."""


def _installation(alias: str, here: str) -> Installation:
    """Return what is installed, no older than :data:`KNOWN_SECONDS`: an audit takes long."""
    at, found = _known.get((alias, here), (0.0, None))
    if found is None or time.monotonic() - at > KNOWN_SECONDS:
        found = _audited(alias)
        _known[alias, here] = time.monotonic(), found
    return found


def _audited(alias: str) -> Installation:
    try:
        with limited(alias):
            found = audit(connections[alias])
    except (PubSubError, ProgrammingError) as error:  # such as no permission for django_migrations
        return Installation(error=str(error).strip().partition("\n")[0])
    known = KnownChannels.of(found)
    return Installation(
        states={name: known.state_of(name) for name in {*known.triggers, *known.installed}},
        problems=list(found.all_problems()),
    )


def _stored(alias: str, installation: Installation) -> DatabaseState:
    lanes = {*registry.lanes_of(declared_channels()), *stored_lanes(alias)}
    known = {lane.channel for lane in lanes}
    lanes |= {Lane(name) for name in installation.states if name not in known}
    return DatabaseState(
        channels=[
            ChannelRow(counts=one, state=installation.states.get(lane.channel))
            for lane, one in sorted(stored_counts(alias, lanes).items())
        ],
        long_calls=long_calls(alias),
        listeners=minutes(alias),
        workers=[ListeningWorker(*one) for one in _rows(alias, "listening")],
        care=table_care(alias),
    )


def _rows(alias: str, name: str) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(query(name))
        return list(cursor.fetchall())
