"""django-pgpubsub. It reads annotations as they stand, so they must not be postponed."""

import datetime
import signal
from dataclasses import dataclass
from typing import Any

from benchmarks import project

project.configure("pgtrigger", "pgpubsub")

import pgpubsub  # noqa: E402
from django.db import connection  # noqa: E402
from pgpubsub import listen  # noqa: E402
from pgpubsub.channel import Channel, TriggerChannel  # noqa: E402

from benchmarks.programs.program import LEDGER, Program, main  # noqa: E402
from benchmarks.project.models import Entry, Item  # noqa: E402


@dataclass
class Nothing(Channel):
    # A field cannot be called "name": that is a method of its channels.
    number: int
    text: str
    lock_notifications = True


@dataclass
class Inserts(Channel):
    number: int
    text: str
    lock_notifications = True


@dataclass
class Ephemeral(Channel):
    number: int
    text: str
    day: datetime.date


@dataclass
class Items(TriggerChannel):
    model = Item
    lock_notifications = True


@pgpubsub.listener(Nothing)
def do_nothing(number: int, text: str) -> None:
    LEDGER.add(number)


@pgpubsub.listener(Inserts)
def insert(number: int, text: str) -> None:
    LEDGER.add(number)
    Entry.objects.create(name=text, data={"number": number})


@pgpubsub.listener(Ephemeral)
def hear(number: int, text: str, day: datetime.date) -> None:
    LEDGER.add(number)


@pgpubsub.post_insert_listener(Items)
def read_item(old: Any, new: Item) -> None:
    LEDGER.add(new.pk)


CHANNELS = {"noop": Nothing, "insert": Inserts, "typed": Items, "ephemeral": Ephemeral}
STORE = """
    WITH message AS (
        SELECT jsonb_build_object('kwargs', jsonb_build_object(
            'number', number, 'text', 'name ' || number)) AS payload
        FROM generate_series(1, %(count)s) AS number
    ), stored AS (
        INSERT INTO pgpubsub_notification (channel, payload)
        SELECT %(channel)s, payload FROM message
    )
    SELECT count(pg_notify(%(channel)s, payload::text)) FROM message"""
ROWS = """
    INSERT INTO project_item (name, number, amount, data)
    SELECT 'name ' || number, number, 1.5, '{}' FROM generate_series(1, %(count)s) AS number"""
PUBLISH = """
    SELECT count(pg_notify(%(channel)s, jsonb_build_object('kwargs', jsonb_build_object(
        'number', number, 'text', 'name ' || number, 'day', '2026-01-01'))::text))
    FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number"""


class DjangoPgpubsub(Program):
    """Handles what it was notified of; with ``recover=yes`` all that is stored, in one go."""

    def __init__(self, recover: str = "no") -> None:
        self.recovers = recover == "yes"

    def set_up(self) -> None:
        project.migrate()

    def store(self, workload: str, count: int) -> None:
        channel = CHANNELS[workload]
        with connection.cursor() as cursor:
            cursor.execute("UNLISTEN *")
            cursor.execute(
                "TRUNCATE pgpubsub_notification, project_item, project_entry RESTART IDENTITY"
            )
        if not self.recovers:
            listen.listen_to_channels([channel])
        with connection.cursor() as cursor:
            cursor.execute(
                ROWS if workload == "typed" else STORE,
                {"channel": channel.listen_safe_name(), "count": count},
            )
            cursor.execute("VACUUM ANALYZE pgpubsub_notification")
            cursor.execute("CHECKPOINT")

    def handle_stored(self, workload: str) -> None:
        channels = [CHANNELS[workload]]
        wrapper = listen.listen_to_channels(channels)
        if self.recovers:
            pgpubsub.process_stored_notifications(channels)
        listen.process_notifications(wrapper)

    def left(self, workload: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pgpubsub_notification")
            return int(cursor.fetchone()[0])

    def written(self) -> int:
        return Entry.objects.count()

    def receive(self, kind: str) -> None:
        listen.POLL = True
        signal.signal(signal.SIGTERM, lambda *_: setattr(listen, "POLL", False))
        listen.listen([CHANNELS[kind]])

    def publish(self, first: int, count: int) -> None:
        values = {"channel": Ephemeral.listen_safe_name(), "first": first, "count": count}
        with connection.cursor() as cursor:
            cursor.execute(PUBLISH, values)


if __name__ == "__main__":
    main(DjangoPgpubsub)
