"""Who changes what is registered, while writers write and workers work."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import closing

from django.db import Error, connection, transaction

from pgpubsub_sql.sql import query
from pgpubsub_sql.subscribing import movable, rename, unregister
from pgpubsub_sql.subscriptions import Lane, columns
from tests.ledger import sql
from tests.torture.channels import FILLED, NAMES, Changing
from tests.torture.models import Name, Written

MOST = 3
"""Most subscriptions at a time."""
USING = "default"


class Registrar(threading.Thread):
    """Adds, renames and ends subscriptions until it is told to stop, or has no name left."""

    def __init__(self, seed: str, seconds: float) -> None:
        super().__init__(name="registrar")
        self.stopping = threading.Event()
        self.counts = Counter[str]()
        self._random = random.Random(f"{seed} registrar")
        self._pause = seconds / len(NAMES)
        self._begun = time.monotonic()
        self._filled = {
            name: seconds * number / (len(FILLED) + 1) for number, name in enumerate(FILLED, 1)
        }
        """Seconds after which each subscription comes that begins with the history."""

    def run(self) -> None:
        """Change something, again and again, whatever the server is doing."""
        with closing(connection):
            while not self.stopping.wait(self._random.expovariate(1 / self._pause)):
                try:
                    self._change()
                except Error:
                    connection.close()

    def _change(self) -> None:
        given = set(Name.objects.values_list("name", flat=True))
        for name, after in self._filled.items():
            if name not in given and time.monotonic() > self._begun + after:
                add(name, is_filled=True)
                self.counts["subscriptions from history"] += 1
        there = [name for name in _names() if name in NAMES]
        free = [name for name in NAMES if name not in given]
        self._move_the_rest(there)
        chosen = self._random.choice(there)
        if len(there) > 1 and self._random.random() < len(there) / MOST / 2:
            unregister(USING, lane(chosen))
            self.counts["subscriptions removed"] += 1
        elif free and (len(there) == MOST or self._random.random() < 0.5):
            self._rename(chosen, free[0])
            self.counts["subscriptions renamed"] += 1
        elif free:
            add(free[0])
            self.counts["subscriptions added"] += 1

    def _rename(self, old: str, new: str) -> None:
        with transaction.atomic():
            Name.objects.create(name=new, first=Name.objects.get(name=old).first)
            rename(USING, lane(old), new)
        movable(USING, lane(old)).move_to(new)

    def _move_the_rest(self, there: list[str]) -> None:
        """Move what was in flight, or in a transaction, when its subscription was renamed."""
        for name in there:
            first = Name.objects.get(name=name).first
            for former in Name.objects.filter(first=first).exclude(name=name):
                movable(USING, lane(former.name)).move_to(name)


def lane(name: str) -> Lane:
    return Lane(Changing.postgres_name(), name)


def begin() -> None:
    """Have one subscription be there, and not all that the code declares."""
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", Changing.postgres_name())
    add(NAMES[0])


@transaction.atomic
def add(name: str, *, is_filled: bool = False) -> None:
    """Register a subscription."""
    Name.objects.create(name=name, first=name)
    with connection.cursor() as cursor:
        cursor.execute(query("register"), columns([lane(name)]) | {"filled": [is_filled]})


def is_filling() -> bool:
    """Whether some have not got their history yet."""
    statement = "SELECT count(*) FROM pgpubsub_sql_subscription WHERE filled_to IS NOT NULL"
    return sql(statement) != [(0,)]


def complete_the_books() -> None:
    """Enter that subscriptions from history are to have got everything, once.

    Each message has been entered for at least one that was there.
    """
    for name in Name.objects.filter(name__in=FILLED).values_list("name", flat=True):
        own = str(lane(name))
        Written.objects.filter(channel=own).update(is_certain=True)
        sql(
            "INSERT INTO torture_written (writer, number, channel, kind, is_to_park, is_certain)"
            " SELECT DISTINCT writer, number, %s, kind, false, true FROM torture_written AS any_one"
            " WHERE channel ^@ %s AND NOT EXISTS (SELECT FROM torture_written AS own"
            " WHERE (own.writer, own.number, own.channel) = (any_one.writer, any_one.number, %s))",
            *(own, f"{Changing.postgres_name()} (", own),
        )


def registered() -> set[str]:
    """Return the first names of what is registered."""
    rows = sql(
        "SELECT first FROM pgpubsub_sql_subscription JOIN torture_name USING (name)"
        " WHERE channel = %s",
        Changing.postgres_name(),
    )
    return {first for (first,) in rows}


def _names() -> list[str]:
    statement = "SELECT name FROM pgpubsub_sql_subscription WHERE channel = %s ORDER BY name"
    return [name for (name,) in sql(statement, Changing.postgres_name())]
