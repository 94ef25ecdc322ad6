"""pgpubsub_sql, and the raw limit on the same table and rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import project

project.configure("pgpubsub_sql")

from django.db import connection, transaction  # noqa: E402

import pgpubsub_sql  # noqa: E402
from benchmarks.programs.program import LEDGER, Program, main  # noqa: E402
from benchmarks.project import channels, listeners  # noqa: E402
from benchmarks.project.models import Entry  # noqa: E402
from pgpubsub_sql.listeners import registry  # noqa: E402
from pgpubsub_sql.worker.claims import Restarts  # noqa: E402
from pgpubsub_sql.worker.delivery import Delivery  # noqa: E402
from pgpubsub_sql.worker.worker import Worker  # noqa: E402

CHANNELS = {
    "noop": channels.Nothing,
    "raw": channels.Nothing,
    "keyed": channels.Keyed,
    "typed": channels.Items,
    "raw typed": channels.Items,
    "kept": channels.KeptItems,
    "from_db": channels.CustomItems,
    "insert": channels.Inserts,
    "plain insert": channels.Inserts,
    "insert lists": channels.Lists,
    "large": channels.Large,
    "ephemeral": channels.Ephemeral,
    "events": channels.Events,
}
"""The channel of each workload."""
RAW_BATCH = 500
PLAIN_BATCH = 60
STORE = """
    INSERT INTO pgpubsub_sql_notification (channel, payload, key)
    SELECT %(channel)s, {payload}, {key} FROM generate_series(1, %(count)s) AS number"""
FIELDS = "jsonb_build_object('number', number, 'name', 'name ' || number)"
KEYED = "jsonb_build_object('number', number, 'name', 'name ' || (number - 1) / 10)"
KEY = "jsonb_build_array('name ' || (number - 1) / 10)::text"
TEXT = (
    "jsonb_build_object('number', number, 'text', "
    "(SELECT string_agg(md5(number || ' ' || n), '') FROM generate_series(1, %(parts)s) AS n))"
)
"""As many parts of 32 bytes, which compression does not make much smaller."""
SPREAD = """
    INSERT INTO pgpubsub_sql_notification (channel, payload)
    SELECT (%(channels)s::text[])[1 + number %% cardinality(%(channels)s::text[])],
        jsonb_build_object('number', number)
    FROM generate_series(1, %(count)s) AS number"""
ROWS = """
    INSERT INTO {table} (name, number, amount, data)
    SELECT 'name ' || number, number, 1.5, '{{}}' FROM generate_series(1, %(count)s) AS number"""
STATEMENTS = {
    channels.Nothing: STORE.format(payload=FIELDS, key="NULL"),
    channels.Inserts: STORE.format(payload=FIELDS, key="NULL"),
    channels.Lists: STORE.format(payload=FIELDS, key="NULL"),
    channels.Keyed: STORE.format(payload=KEYED, key=KEY),
    channels.Large: STORE.format(payload=TEXT, key="NULL"),
    channels.Items: ROWS.format(table="project_item"),
    channels.KeptItems: ROWS.format(table="project_keptitem"),
    channels.CustomItems: ROWS.format(table="project_customitem"),
}
PUBLISH = """
    SELECT count(pgpubsub_publish_v1(%(channel)s, jsonb_build_object(
        'number', number, 'name', 'name ' || number, 'day', '2026-01-01')))
    FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number"""
TAKE = """
    DELETE FROM pgpubsub_sql_notification WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM pgpubsub_sql_notification
        WHERE id > %s AND channel = %s AND available_at <= statement_timestamp()
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    )) RETURNING id, payload::text"""
TABLES = (
    "pgpubsub_sql_notification, project_item, project_keptitem, project_customitem, project_event, "
    "project_entry"
)


def channels_of(workload: str) -> list[Any]:
    """Return the channels of a workload."""
    return channels.MORE if workload == "spread" else [CHANNELS[workload]]


class Ours(Program):
    """Handles in this process what a worker of ``manage.py listen`` would handle."""

    def set_up(self) -> None:
        project.migrate()

    def store(self, workload: str, count: int, size: int = 1 << 20) -> None:
        self._count = count
        statement = SPREAD if workload == "spread" else STATEMENTS[CHANNELS[workload]]
        names = [channel.postgres_name() for channel in channels_of(workload)]
        values = {"channel": names[0], "channels": names, "count": count, "parts": size // 32}
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
            cursor.execute(statement, values)
            cursor.execute("VACUUM ANALYZE pgpubsub_sql_notification")
            cursor.execute("CHECKPOINT")
        self.open(workload)

    def open(self, workload: str) -> None:
        """Be ready to handle what is stored, by whatever process."""
        LEDGER.clear()
        self._delivery = Delivery(channels_of(workload), using="default", schema="public")

    def share(self, workload: str) -> dict[str, Any]:
        """Handle what is stored, beside other processes; return the numbers, and when it ended."""
        self.handle_stored(workload)
        return {"ended": time.perf_counter(), "numbers": LEDGER.numbers.tolist()}

    def drain(self, workload: str, count: int, **more: int) -> dict[str, Any]:
        with measuring_restarts() as took:
            report = super().drain(workload, count, **more)
        return report | {"restarting": sum(took)}

    def handle_stored(self, workload: str) -> None:
        if workload == "spread":
            waiting = [channel.postgres_name() for channel in channels_of(workload)]
            while waiting:
                waiting = [name for name in waiting if self._delivery.handle_stored(name)]
            return
        name = CHANNELS[workload].postgres_name()
        if workload.startswith("raw"):
            take_raw(name)
        elif workload == "plain insert":
            insert_plainly(self._count)
        else:
            while self._delivery.handle_stored(name):
                pass

    def worked(self) -> float:
        pid = connection.connection.info.backend_pid
        nanoseconds = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
        return super().worked() + int(nanoseconds) / 1e9

    def left(self, workload: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pgpubsub_sql_notification")
            return int(cursor.fetchone()[0])

    def written(self) -> int:
        return Entry.objects.count()

    def receive(self, kind: str) -> None:
        listeners.lags = type(listeners.lags)("d")
        listening = registry.channels() if kind == "all" else [CHANNELS[kind]]
        worker = ReadyWorker(listening, using="default")
        worker.say = self.say
        worker.run()

    def lags(self) -> dict[str, Any]:
        """Return how late each ``Event`` was heard of."""
        return {"lags": listeners.lags.tolist()}

    def send_one(self, number: int, held: float) -> float:
        message = channels.Nothing(number=number, name="sent")
        if not held:
            started = time.perf_counter()
            pgpubsub_sql.notify(message)
            return started
        with transaction.atomic():
            pgpubsub_sql.notify(message)
            time.sleep(held)
            committing = time.perf_counter()
        return committing  # noqa: RET504  # COMMIT comes between

    def publish(self, first: int, count: int) -> None:
        values = {
            "channel": channels.Ephemeral.postgres_name(),
            "first": first,
            "count": count,
        }
        with connection.cursor() as cursor:
            cursor.execute(PUBLISH, values)


class ReadyWorker(Worker):
    """Says when it has begun to listen."""

    say: Callable[[dict[str, Any]], None] | None

    def step(self) -> None:
        if self.say:
            self.say({"warm": True})
            self.say = None
        super().step()


@contextmanager
def measuring_restarts() -> Iterator[list[float]]:
    """Note the seconds of each search that begins at the start of a channel."""
    took: list[float] = []
    add = Restarts.add

    def note(restarts: Restarts, seconds: float) -> None:
        took.append(seconds)
        add(restarts, seconds)

    Restarts.add = note  # type: ignore[method-assign]
    try:
        yield took
    finally:
        Restarts.add = add  # type: ignore[method-assign]


def take_raw(name: str) -> None:
    """Delete all messages in a loop of nothing else, with the driver's own cursor.

    It goes on after what it has taken: PostgreSQL would otherwise read all that was deleted again,
    each time, and workers do not do that either.
    """
    connection.ensure_connection()
    last = 0
    with connection.connection.cursor() as cursor:
        while True:
            cursor.execute(TAKE, [last, name, RAW_BATCH])
            taken = cursor.fetchall()
            if not taken:
                return
            ids = [id for id, _ in taken]
            last = max(ids)
            LEDGER.numbers.extend(ids)


def insert_plainly(count: int) -> None:
    """Make the same inserts in a loop of nothing else, and forget the messages."""
    numbers = range(1, count + 1)
    for start in range(0, count, PLAIN_BATCH):
        with transaction.atomic():
            for number in numbers[start : start + PLAIN_BATCH]:
                listeners.insert(number, "name")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE pgpubsub_sql_notification")


if __name__ == "__main__":
    main(Ours)
