"""The owner of a stream: the database that publishes to it, which the broker keeps with the stream.

Two databases with one origin would both publish into the same streams, and receivers could not tell
their messages apart. A standby that is promoted has the identity of its primary, so it goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.db import connections

from pgpubsub_sql.errors import BrokerRefused
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.settings import NAME
from pgpubsub_sql.sql import query

_IDENTITY, _DATABASE = "pgpubsub-publisher", "pgpubsub-database"
"""Keys in the metadata of a stream."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """A database that publishes."""

    identity: str
    """The system identifier of its server, and the number of the database there."""
    database: str = dataclasses.field(compare=False)
    """Its name, for people alone: it may be renamed."""

    def __str__(self) -> str:
        system, _, oid = self.identity.partition("/")
        return f"{self.database!r} (oid {oid}, system {system})"

    def metadata(self) -> dict[str, str]:
        """Return what the broker keeps with the streams of this database."""
        return {_IDENTITY: self.identity, _DATABASE: self.database}


def this_database(using: str) -> Owner:
    """Return the database *using* as the owner of streams."""
    with connections[using].cursor() as cursor:
        cursor.execute(query("this_database"))
        ((identity, database),) = cursor.fetchall()
    return Owner(identity=identity, database=database)


def owner_of(info: Mapping[str, Any]) -> Owner | None:
    """Return the owner of a stream of which the broker says *info*; None if it has none."""
    metadata = info["config"].get("metadata") or {}
    if not (identity := metadata.get(_IDENTITY)):
        return None
    return Owner(identity=identity, database=metadata.get(_DATABASE, ""))


def check_owner(stream: Stream, info: Mapping[str, Any], ours: Owner) -> None:
    """Raise :class:`BrokerRefused` if *stream* belongs to another database than *ours*, or to none.

    What has no owner was not made for this database, and may be another's tomorrow.
    """
    found = owner_of(info)
    if found is None:
        raise BrokerRefused(
            f"The stream {stream} does not say which database publishes to it. To have it say this "
            "one, run: python manage.py pgpubsub relay --setup"
        )
    check_not_foreign(stream, found, ours)


def check_not_foreign(stream: Stream, found: Owner | None, ours: Owner) -> None:
    """Raise :class:`BrokerRefused` if *found*, the owner of *stream*, is another database."""
    if found is None or found == ours:
        return
    raise BrokerRefused(
        f"The database {found} publishes to the stream {stream}, so this one, {ours}, must not. "
        "Its messages wait. If it belongs to another project, set another 'origin' in "
        f"{NAME}. If it is a copy, remove {NAME} from its settings. If it has taken the place of "
        "the other, as after a restore, pg_upgrade or a move to a logical replica, stop the relays "
        "of the other, then run here: python manage.py pgpubsub relay --setup --take-over"
    )
