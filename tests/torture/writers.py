"""Those who write: each in its way, in transactions of which many come to nothing."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import Any

from django.db import Error, connection, transaction

from pgpubsub_sql import notify, notify_many
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.subscriptions import Lane
from tests.ledger import copy, sql
from tests.torture.audit import LOCKED
from tests.torture.channels import (
    Alone,
    Brittle,
    Bundle,
    Changing,
    Message,
    Ordered,
    OrderedBundle,
    OrderedRows,
    Rows,
    Shared,
)
from tests.torture.listeners import DEADLY, FELLING, INNOCENT, MOODS
from tests.torture.models import Row, Written
from tests.torture.registrar import lane, registered
from tests.torture.untidy import UNTIDY

KEYED = (Ordered, OrderedBundle, Shared)
NOTIFIED = (Message, Alone, Bundle, *KEYED)
KEYS = tuple(f"{how} {number}" for how in (LOCKED, "free") for number in range(10))
PAUSE_SECONDS = 0.25
"""Between two transactions, on average: workers on two cores are to keep up."""
GOOD = 0.9
"""Share of the messages whose listener does well, and leaves nothing behind."""
LONG_PAUSE_SECONDS = 0.7
"""Within a long transaction, between two writes, on average."""

ROW = ("writer", "number", "key", "mood", "failures")


class ChangeOfMindError(Exception):
    """A writer rolls back."""


class Writer(threading.Thread):
    """One connection, and the transactions of one kind of writer, until it is told to stop."""

    def __init__(self, number: int, kind: str, seed: str, stopping: threading.Event) -> None:
        super().__init__(name=f"{kind} writer")
        self.number = number
        self.kind = kind
        self.sent = 0
        """Events, those that were rolled back among them."""
        self.failures = 0
        """Transactions that failed, as their connection or their server did."""
        self._random = random.Random(f"{seed} {number}")
        self._numbers = itertools.count(1)
        self._stopping = stopping

    def run(self) -> None:
        """Write."""
        with closing(connection):
            while not self._stopping.wait(self._random.expovariate(1 / PAUSE_SECONDS)):
                try:
                    with suppress(ChangeOfMindError):
                        self._write()
                except (
                    Error,
                    connection.Database.Error,
                ):  # COPY, under psycopg 3, passes Django by
                    self.failures += 1
                    connection.close()

    def _write(self) -> None:
        """One transaction."""
        ways, level = KINDS[self.kind]
        with transaction.atomic():
            if level:
                sql(f"SET TRANSACTION ISOLATION LEVEL {level}")
            self._key = self._random.choice(KEYS)
            if self._key.startswith(LOCKED):
                sql("SELECT pg_advisory_xact_lock(hashtext(%s))", self._key)
            if level == "SERIALIZABLE":  # reads what others write: some of them must fail
                sql("SELECT count(*) FROM torture_row WHERE key = %s", self._key)
            for _ in range(self._random.randint(1, 5)):
                with self._perhaps_a_savepoint():
                    self._random.choice(ways)(self)
                if self.kind == "long":
                    self._stopping.wait(self._random.expovariate(1 / LONG_PAUSE_SECONDS))
            self._perhaps_roll_back(0.2)

    @contextmanager
    def _perhaps_a_savepoint(self) -> Iterator[None]:
        if self._random.random() < 0.7:
            yield
            return
        with suppress(ChangeOfMindError), transaction.atomic():
            yield
            self._perhaps_roll_back(0.5)

    def _perhaps_roll_back(self, probability: float) -> None:
        if self._random.random() < probability:
            raise ChangeOfMindError

    # --- The ways to write ------------------------------------------------------------------

    def notify(self) -> None:
        """``notify()``, at once or later."""
        channel = self._random.choice(NOTIFIED)
        message = self._message(channel)
        is_late = channel not in KEYED and self._random.random() < 0.2
        notify(message, delay=timedelta(seconds=self._random.random()) if is_late else None)

    def notify_many(self) -> None:
        """``notify_many()``, of several channels."""
        channels = self._random.choices(NOTIFIED, k=self._random.randint(1, 10))
        notify_many([self._message(channel) for channel in channels])

    def create(self) -> None:
        """``Model.objects.create()``."""
        Row.objects.create(**self._row())

    def bulk_create(self) -> None:
        """``Model.objects.bulk_create()``."""
        Row.objects.bulk_create(Row(**row) for row in self._rows())

    def save(self) -> None:
        """``Model.save()`` of what it has written before."""
        row = Row.objects.filter(writer=self.number, key=self._key).order_by("-id").first()
        if row is not None:
            vars(row).update(self._row())
            row.save()

    def copy(self) -> None:
        """``COPY … FROM STDIN``."""
        lines = ["\t".join(map(str, row.values())) for row in self._rows()]
        copy(f"COPY torture_row ({', '.join(ROW)}) FROM STDIN", "\n".join([*lines, ""]))

    def insert(self) -> None:
        """``INSERT`` of several rows."""
        rows = self._rows()
        places = ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))
        values = [value for row in rows for value in row.values()]
        sql(f"INSERT INTO torture_row ({', '.join(ROW)}) VALUES {places}", *values)

    def update(self) -> None:
        """``UPDATE`` of one row of its own."""
        own = "SELECT id FROM torture_row WHERE writer = %s AND key = %s LIMIT 1 FOR UPDATE"
        for (row_id,) in sql(own, self.number, self._key):
            statement = "UPDATE torture_row SET number = %s, mood = %s, failures = %s WHERE id = %s"
            row = self._row()
            sql(statement, row["number"], row["mood"], row["failures"], row_id)

    def pgpubsub_notify(self) -> None:
        """``SELECT pgpubsub_notify(…)``, now and then with what cannot be read."""
        is_readable = self._random.random() < 0.9
        event = self._event(Message, is_to_park=not is_readable)
        if not is_readable:
            event["failures"] = "as many as you like"
        statement = "SELECT pgpubsub_notify(%s, %s::jsonb)"
        sql(statement, Message.postgres_name(), json.dumps(event))

    def notify_changing(self) -> None:
        """``notify()``, while subscriptions come and go.

        Who was there before and is there after it gets the message; others may.
        """
        event = {"writer": self.number, "number": next(self._numbers)}
        before = registered()
        notify(Changing(**event, mood=self._mood(), failures=self._random.randint(1, 2)))
        after = registered()
        for is_certain, names in ((True, before & after), (False, before ^ after)):
            self._enter(event, [*map(lane, names)], is_certain=is_certain)

    @transaction.atomic
    def notify_deadly(self) -> None:
        """``notify()`` of what its listener dies of."""
        notify(Message(**self._event(Message) | {"mood": DEADLY}))

    @transaction.atomic
    def notify_felling(self) -> None:
        """``notify_many()`` of what kills the whole tree of its worker, among neighbours."""
        felling = Brittle(**self._event(Brittle, is_to_park=True) | {"mood": FELLING})
        neighbours = [Brittle(**self._event(Brittle) | {"mood": "good"}) for _ in range(6)]
        notify_many([*neighbours[:3], felling, *neighbours[3:]])

    # --- What they write --------------------------------------------------------------------

    def _message(self, channel: Any) -> Any:
        key = {"key": self._key} if channel in KEYED else {}
        return channel(**self._event(channel), **key)

    def _rows(self) -> list[dict[str, Any]]:
        return [self._row() for _ in range(self._random.randint(1, 10))]

    def _row(self) -> dict[str, Any]:
        row = self._event(Rows, OrderedRows) | {"key": self._key}
        return {name: row[name] for name in ROW}

    def _event(self, *channels: Any, is_to_park: bool = False) -> dict[str, Any]:
        """Make an event of these channels, and enter it into the book."""
        event = {"writer": self.number, "number": next(self._numbers)}
        self._enter(event, registry.lanes_of(channels), is_to_park=is_to_park)
        return event | {"mood": self._mood(), "failures": self._random.randint(1, 2)}

    def _enter(self, event: dict[str, Any], lanes: Sequence[Lane], **about: bool) -> None:
        self.sent += len(lanes)
        Written.objects.bulk_create(
            Written(**event, channel=str(lane), kind=self.kind, **about) for lane in lanes
        )

    def _mood(self) -> str:
        if self._random.random() < GOOD:
            return "good"
        kind = self._random.choice([[*MOODS, *INNOCENT], [*UNTIDY]])
        return self._random.choice(kind)


Way = Callable[[Writer], None]

EVERY_WAY: tuple[Way, ...] = (
    *(Writer.notify, Writer.notify_many, Writer.create, Writer.bulk_create, Writer.save),
    *(Writer.copy, Writer.insert, Writer.update, Writer.pgpubsub_notify),
    *(Writer.notify_changing,) * 2,
)

CHANGING_WAYS = (*EVERY_WAY, *(Writer.notify_changing,) * 9)
"""Of those whose messages are known the latest whose subscriptions have changed meanwhile."""

KINDS: dict[str, tuple[tuple[Way, ...], str]] = {
    "notify()": ((Writer.notify, Writer.notify_changing), ""),
    "notify_many()": ((Writer.notify_many,), ""),
    "ORM": ((Writer.create, Writer.bulk_create, Writer.save), ""),
    "COPY": ((Writer.copy,), ""),
    "SQL": ((Writer.insert, Writer.update, Writer.pgpubsub_notify), ""),
    "REPEATABLE READ": (CHANGING_WAYS, "REPEATABLE READ"),
    "SERIALIZABLE": (EVERY_WAY, "SERIALIZABLE"),
    "long": (CHANGING_WAYS, ""),
}
"""Each kind of writer: its ways to write, and its isolation level if not the usual one."""
