"""From one database to another through a cluster, while leaders, sessions and readers die.

It is short here; ``make torture-relay`` takes RELAY_TORTURE_SECONDS (120), and prints a table.
"""

from __future__ import annotations

import dataclasses
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connections, transaction

from example.relay.servers import Nats
from pgpubsub_sql import models, notify_many
from pgpubsub_sql.errors import RelayError
from pgpubsub_sql.models import Notification
from pgpubsub_sql.relay import receiver
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.consumer import Incoming
from pgpubsub_sql.relay.inbox import InboxWriter
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.outbox import Outbox
from pgpubsub_sql.relay.publisher import PublishingWorker
from pgpubsub_sql.relay.receiver import Reader, Receiver
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import streams_of
from pgpubsub_sql.worker.shutdown import Shutdown
from tests.app.channels import Step
from tests.app.models import Entry
from tests.conftest import eventually
from tests.relay.registration import make_ours, registered

SECONDS = float(os.environ.get("RELAY_TORTURE_SECONDS", "2"))
SETTLE_SECONDS = 120.0
ACCOUNTS = 20
SHARE = 0.03
"""How often a receiver dies around its COMMIT."""
PUBLISHED_SHARE = 0.1
"""How often a publisher dies before its COMMIT; it commits larger batches."""

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.timeout(SECONDS * 2 + 240),
]


FAULTS = ("lost", "twice", "invented", "out of order")


class Death(BaseException):
    """Stands for a process that dies: its transaction is rolled back, its connection is gone."""


class NoInbox(InboxWriter):
    """Takes every message for new: it would hide a reader's errors."""

    def _new(self, stream: Stream, messages: Sequence[Incoming]) -> list[Incoming]:
        return list(messages)


class Trial:
    """Two databases, a cluster between them, and what becomes of everything that is written."""

    def __init__(self, nats: Nats, seed: int, inbox: type[InboxWriter]) -> None:
        self.inbox = inbox
        self.random = random.Random(seed)
        self.nats = nats
        self.settings = RelaySettings(servers=tuple(nats.urls), origin="shop", partitions=2)
        self.streams = streams_of("shop", "app.Step", self.settings)
        self.stopping = threading.Event()
        """Nothing is written any more."""
        self.ended = threading.Event()
        """Nothing is published any more."""
        self.written: dict[str, int] = defaultdict(int)
        self.counts: dict[str, int] = defaultdict(int)
        self.publishers: list[PublishingWorker] = []
        self.errors: list[BaseException] = []

    def run(self, seconds: float) -> None:
        with Broker(self.settings) as broker:
            for stream in self.streams:
                eventually(lambda one=stream: self._made(broker, one))
        shutdowns = [Shutdown(), Shutdown()]
        writer = self._thread(self._write)
        threads = [
            writer,
            *(self._thread(self._publish) for _ in range(2)),
            *(self._thread(lambda one=shutdown: self._receive(one)) for shutdown in shutdowns),
        ]
        try:
            self._disturb(time.monotonic() + seconds)
            self.stopping.set()
            writer.join(30)  # else it may commit a last transaction once all others have settled
            eventually(self._is_settled, within=SETTLE_SECONDS)
        finally:
            self.stopping.set()
            self._stop_publishers()
            for shutdown in shutdowns:
                shutdown.request()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert not self.errors

    def _made(self, broker: Broker, stream: Stream) -> bool:
        try:
            return bool(make_ours(broker, stream))
        except RelayError:
            return False

    def _thread(self, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self.errors.append(error)
                raise
            finally:
                connections.close_all()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _write(self) -> None:
        while not self.stopping.wait(0.005):
            accounts = [
                f"a{self.random.randrange(ACCOUNTS)}" for _ in range(self.random.choice((1, 2, 40)))
            ]
            numbers = dict(self.written)
            steps = []
            for account in accounts:
                numbers[account] = numbers.get(account, 0) + 1
                steps.append(Step(account=account, number=numbers[account]))
            try:
                with transaction.atomic():
                    notify_many(steps)
                    Entry.objects.create(listener="written", data=numbers)
            except (DatabaseError, InterfaceError):  # it was killed: was it committed?
                connections["default"].close()
                numbers = self._committed()
            self.written.update(numbers)

    def _committed(self) -> dict[str, int]:
        """Return the last number of each account, as the last transaction has left it."""
        last = Entry.objects.filter(listener="written").order_by("id").last()
        return dict(last.data) if last else {}

    def _publish(self) -> None:
        while not self.ended.is_set():
            worker = PublishingWorker([Step], self.settings)
            self.publishers.append(worker)
            try:
                worker.run()
            except Death:
                self.counts["publishers died"] += 1
            finally:
                connections["default"].close()

    def _stop_publishers(self) -> None:
        self.ended.set()
        for worker in self.publishers:
            worker.shutdown.request()

    def _receive(self, shutdown: Shutdown) -> None:
        settings = dataclasses.replace(self.settings, sources=("shop",), origin=None)
        with shutdown:
            while not shutdown.is_requested():
                try:
                    Receiver(
                        [Step], settings, using="other", shutdown=shutdown, inbox=self.inbox
                    ).run()
                except Death:
                    self.counts["receivers died"] += 1

    def _disturb(self, until: float) -> None:
        """Kill the leaders of streams, and sessions of both databases, one after the other."""
        while time.monotonic() < until:
            node = self.random.choice(self.nats.nodes)
            node.kill()
            self.counts["servers killed"] += 1
            time.sleep(self.random.uniform(0.2, 1.5))
            self._kill_sessions()
            self.nats.start()
            time.sleep(self.random.uniform(0.3, 2))

    def _kill_sessions(self) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname LIKE current_database() || '%%' AND pid <> pg_backend_pid()"
                " AND random() < 0.5",
                [],
            )
            self.counts["sessions killed"] += cursor.fetchone()[0]

    def _is_settled(self) -> bool:
        assert not self.errors
        try:
            waiting = Notification.objects.filter(subscription="relay")
            return not waiting.exists() and Notification.objects.using("other").count() >= sum(
                self.written.values()
            )
        except (DatabaseError, InterfaceError):
            connections.close_all()
            return False


def audit(trial: Trial) -> dict[str, int]:
    """Return how many messages are lost, twice, invented or out of order in the other database."""
    arrived: dict[str, list[int]] = defaultdict(list)
    rows = Notification.objects.using("other").order_by("id").values_list("payload", flat=True)
    for payload in rows:
        arrived[payload["account"]].append(payload["number"])
    found = {"written": sum(trial.written.values()), **dict.fromkeys(FAULTS, 0)}
    for account in {*arrived, *trial.written}:
        numbers, last = arrived[account], trial.written[account]
        found["lost"] += len(set(range(1, last + 1)) - set(numbers))
        found["invented"] += len(set(numbers) - set(range(1, last + 1)))
        found["twice"] += len(numbers) - len(set(numbers))
        found["out of order"] += sum(b < a for a, b in pairwise(numbers))
    return found


@pytest.mark.parametrize("has_inbox", [True, False], ids=["with the inbox", "without"])
def test_nothing_is_lost_doubled_invented_or_out_of_order(
    has_inbox: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox would hide a reader's errors: the broker's own window is as long as this lasts."""
    monkeypatch.setattr(receiver, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(Step, "relay", True)
    seed = int(os.environ.get("RELAY_TORTURE_SEED", "1"))
    dice = random.Random(seed)
    publish, store = Outbox._execute, Reader.store

    def publishes(self: Outbox, name: str, values: dict[str, Any], text: str = "") -> list[Any]:
        if name == "delete_from_outbox" and dice.random() < PUBLISHED_SHARE:
            raise Death
        return publish(self, name, values, text)

    def stores(self: Reader, messages: Any) -> int:
        if dice.random() < SHARE / 2:
            raise Death
        found = store(self, messages)
        if dice.random() < SHARE / 2:
            raise Death
        return found

    monkeypatch.setattr(Outbox, "_execute", publishes)
    monkeypatch.setattr(Reader, "store", stores)
    with registered("app.Step"), Nats(3) as nats:
        trial = Trial(nats, seed, InboxWriter if has_inbox else NoInbox)
        trial.run(SECONDS)
        found = audit(trial)
    print("\n", {**found, **trial.counts, "inbox": models.Inbox.objects.using("other").count()})
    assert found["written"] > 0
    assert {
        name: found[name] for name in ("lost", "twice", "invented", "out of order")
    } == dict.fromkeys(("lost", "twice", "invented", "out of order"), 0)
