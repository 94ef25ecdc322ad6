"""Taps: what a test's own database says of messages that are sent in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from django.db import connections

from pgpubsub_sql.django_internals import ensure_connected, execute_wrapper
from pgpubsub_sql.errors import NotReady, PubSubError
from pgpubsub_sql.sql import SQL, query, quote_identifier, render, split_identifiers
from pgpubsub_sql.transaction_settings import is_broken
from pgpubsub_sql.worker.connections import execute

RAW_SCHEMA = "pgpubsub_sql_testing"
_UNHEARD = re.compile(r"\bpg_catalog\s*\.\s*pg_notify\b|^\s*NOTIFY\s", re.IGNORECASE | re.MULTILINE)
"""SQL that sends past the ``pg_notify`` in :data:`RAW_SCHEMA`."""


class Place(NamedTuple):
    """The place of a message among all that were sent."""

    position: int
    number: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A message as it was found."""

    place: Place
    name: str
    """Name of the channel in PostgreSQL."""
    text: str
    """The payload as JSON, or whatever a raw NOTIFY holds."""
    stored: bool
    subscription: str = ""
    raw: bool = False
    """Whether it came by a NOTIFY that none of our functions sent."""
    key: str | None = None
    available_at: str | None = None
    attempts: int = 0
    error: str = ""


class Tap(Protocol):
    """Where ephemeral messages are heard, as long as it is open."""

    def open(self) -> AbstractContextManager[None]:
        """Hear what is sent in the block."""

    def heard(self, after: int) -> Sequence[Row]:
        """Return what was sent after a position and not forgotten, in order."""

    def forget(self, rows: Sequence[Row]) -> None:
        """Forget messages that were handled or discarded."""

    def restore(self) -> None:
        """Undo what it has changed in the database, because somebody has committed that."""


class TransactionTap:
    """Records what is sent in the open transaction of the alias *using*.

    The function that sends ephemeral messages is replaced, within this transaction, by one that
    records them first, in a temporary table. So a savepoint that is undone takes its messages with
    it, and nothing is left once the transaction is.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._definition = ""
        """The function that sends, as it was."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hear what is sent in the block. Raises :class:`NotReady`."""
        schema, definition, body = self._sending_function()
        if not self._has_table():
            self._run(render("testing/create_captured", schema=schema))
        recording = render("testing/recording_body", body=SQL(body.strip().removesuffix(";")))
        is_outermost = "pgpubsub_sql_captured" not in body
        if is_outermost:
            # Installed anew each time, because a savepoint may have undone it.
            self._definition = definition
            self._run(definition.replace(body, f"\n{recording}\n"))
        try:
            yield
        finally:
            if is_outermost and not is_broken(connections[self._using]):
                self.restore()  # whoever commits the transaction must not commit the other

    def heard(self, after: int) -> list[Row]:
        """Return what was sent after a position and not forgotten, in order."""
        if not self._has_table():
            return []
        return [
            Row(place=Place(position), name=name, text=text, stored=False, raw=raw)
            for position, name, text, raw in ask(self._using, "captured_after", after=after)
        ]

    def forget(self, rows: Sequence[Row]) -> None:
        """Forget messages that were handled or discarded."""
        if rows:
            ask(self._using, "forget_captured", ids=[row.place.position for row in rows])

    def restore(self) -> None:
        """Have the function that sends as it was."""
        if self._definition:
            self._run(self._definition)

    def _sending_function(self) -> tuple[str, str, str]:
        """Return schema, definition and body of the function that sends ephemeral messages."""
        rows = ask(self._using, "sending_function")
        if not rows:
            raise NotReady(
                "Messages cannot be captured: the functions of pgpubsub_sql are missing in the "
                f"database {self._using!r}. Run migrate; a test database is migrated by itself."
            )
        schema, definition, body, is_ours, owner = rows[0]
        if not is_ours:
            raise NotReady(
                f"Messages cannot be captured: that takes the role that owns the function "
                f"{schema}.pgpubsub_send_v1. Run tests and migrations as the same role, or GRANT "
                f"{quote_identifier(owner)} TO the role of the tests."
            )
        return schema, definition, body

    def _has_table(self) -> bool:
        return bool(ask(self._using, "has_captured")[0][0])

    def _run(self, text: str) -> None:
        execute(connections[self._using], text)


def ask(using: str, name: str, /, **parameters: Any) -> list[Any]:
    """Execute the query *name* past Django, so that no test counts it; return the rows."""
    connection: Any = connections[using]
    ensure_connected(connection)
    return execute(connection, query(name), parameters or None)


def stored(using: str, after: int = 0) -> list[Row]:
    """Return the messages that are stored, in order.

    The copies of a message, one for each subscription, have the same place.
    """
    return [
        Row(
            place=Place(position),
            name=name,
            text=text,
            stored=True,
            subscription=subscription,
            key=key,
            available_at=available_at,
            attempts=attempts,
            error=error,
        )
        for position, name, subscription, text, key, available_at, attempts, error in ask(
            using, "stored_after", after=after
        )
    ]


@contextmanager
def hearing_pg_notify(using: str) -> Iterator[None]:
    """Record what the block sends by ``pg_notify()``, in a transaction that has a tap.

    A function of that name is found before PostgreSQL's. Python code that sends past it raises
    :class:`PubSubError`.
    """
    connection: Any = connections[using]
    ((path,),) = ask(using, "search_path")
    execute(connection, render("testing/create_raw_schema"))
    schemas = [*split_identifiers(path), RAW_SCHEMA, "pg_catalog"]
    _set_path(using, ", ".join(map(quote_identifier, schemas)))
    try:
        with execute_wrapper(connection, _refuse_unheard):
            yield
    finally:
        if not is_broken(connection):
            _set_path(using, path)
            execute(connection, render("testing/drop_raw_schema"))


def _set_path(using: str, path: str) -> None:
    ask(using, "set_search_path", path=path)


def _refuse_unheard(call: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    text = sql if isinstance(sql, str) else sql.as_string(context["cursor"].cursor)
    if _UNHEARD.search(text):
        raise PubSubError(
            f"capture(raw=True) cannot hear this: {text.strip()}. Send it by SELECT "
            "pg_notify(channel, payload), without a schema."
        )
    return call(sql, params, many, context)
