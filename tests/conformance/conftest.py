"""The eight combinations, and what their tests do with them.

A ``manage.py listen`` is shared by the tests of one driver and one number of processes; a test that
stops it leaves it to the next to start it again.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgpubsub_sql import Notification, TriggerChannel, ignore, notify
from pgpubsub_sql.models import LongPayload, State
from tests.app.channels import ItemChannel, ItemNews, Job, Shout
from tests.app.models import Entry, Item
from tests.conformance.channels import Durable, Ephemeral, Said, Shared
from tests.conformance.drivers import environment, is_installed
from tests.conftest import DEADLINE_SECONDS, Listen, eventually
from tests.ledger import sql

FIRST_OF_THE_LAST = 1_000_000
LAST = itertools.count(FIRST_OF_THE_LAST)
"""The numbers of messages after which nothing more is sent."""


class Listening:
    """``manage.py listen`` over one driver, with so many processes."""

    def __init__(self, directory: Path, driver: str, processes: int) -> None:
        self.driver = driver
        self.processes = processes
        self._directory = directory
        self._listen: Listen | None = None
        self._starts = 0

    @property
    def is_running(self) -> bool:
        """Whether there is one that has not ended, whatever ended it."""
        return self._listen is not None and self._listen.process.poll() is None

    @property
    def now(self) -> Listen:
        """The one that is running."""
        assert self._listen is not None
        return self._listen

    def start(self) -> None:
        """Have it running, which is not to wait until it listens."""
        if not self.is_running:
            self._starts += 1
            self._listen = Listen(
                self._directory / f"{self._starts}.log",
                *("--processes", str(self.processes), "--exclude", "app.Job", "app.Shout"),
                DJANGO_SETTINGS_MODULE="tests.conformance.settings",
                **environment(self.driver),
            )

    def stop(self) -> None:
        """Have it stopped, as a service manager does it."""
        self.now.process.send_signal(signal.SIGTERM)
        self.await_end()

    def await_end(self) -> None:
        """Wait until it has ended, as it should."""
        try:
            assert self.now.process.wait(DEADLINE_SECONDS) == 0, self.now.log
        finally:
            self.kill()

    def kill(self) -> None:
        """Leave nothing behind."""
        if self._listen is not None:
            self._listen.kill()

    @property
    def is_unharmed(self) -> bool:
        """Whether those that were started are those that run."""
        log = self.now.log
        return "with exit code" not in log and log.count("started as process") == self.processes

    def connections(self) -> Counter[str]:
        """Return how often each worker has begun to listen."""
        return Counter(re.findall(r"\[(\d+)\] Listening to", self.now.log))

    @contextmanager
    def reconnecting(self) -> Iterator[None]:
        """Wait until every worker listens again after something that ends all connections."""
        before = self.connections()
        yield
        eventually(lambda: all(times > before[pid] for pid, times in self.connections().items()))


@dataclasses.dataclass(frozen=True)
class Line:
    """From a sender to those who listen, on a channel of one mode."""

    listening: Listening
    channel: type[Said]
    rows: type[TriggerChannel]
    """What brings the rows of Item."""
    left_out: type[Any]
    """What nobody listens to."""
    sender: str
    """The function to send with in SQL."""

    @property
    def copies(self) -> int:
        """How often each message is handled: by one process, or by every one."""
        return 1 if self.channel is Durable else self.listening.processes

    def say(self, number: int, mood: str = "good", **fields: Any) -> Said:
        """Send a message."""
        message = self.channel(number=number, mood=mood, **fields)
        notify(message)
        return message

    def settle(self) -> None:
        """Wait until all that was sent has been handled, and what is to be retried waits."""
        last = self.say(next(LAST)).number
        eventually(lambda: len(self._entries("hear", number=last)) == self.copies)
        due = Notification.from_channel(self.channel).in_state(State.READY, State.IN_FLIGHT)
        eventually(lambda: not due.exists())

    def heard(self, listener: str = "hear") -> list[int]:
        """Return the numbers that a listener was called with, once all is handled, in order."""
        self.settle()
        return self.so_far(listener)

    def so_far(self, listener: str = "hear") -> list[int]:
        """Return the numbers that a listener was called with by now, in order."""
        return [one.data["number"] for one in self._heard(listener)]

    def told(self, field: str, listener: str = "hear", **chosen: Any) -> list[Any]:
        """Return what calls of a listener have written down of *field*, in order."""
        return [one.data[field] for one in self._entries(listener, **chosen)]

    def by_process(self) -> dict[int, list[int]]:
        """Return the numbers that each process was called with, once all is handled, in order."""
        self.settle()
        heard: dict[int, list[int]] = {}
        for one in self._heard("hear"):
            heard.setdefault(one.pid, []).append(one.data["number"])
        return heard

    def _heard(self, listener: str) -> list[Entry]:
        return [one for one in self._entries(listener) if one.data["number"] < FIRST_OF_THE_LAST]

    def _entries(self, listener: str, **chosen: Any) -> list[Entry]:
        """Return what was written down; all of it over the driver that was asked for."""
        names = [self.channel.postgres_name(), self.rows.postgres_name()]
        wanted = {"listener": listener, "data__channel__in": names}
        wanted |= {f"data__{name}": value for name, value in chosen.items()}
        entries = list(Entry.objects.filter(**wanted).order_by("id"))
        assert {one.data["driver"] for one in entries} <= {self.listening.driver}
        return entries


@pytest.fixture(scope="module", params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    if not is_installed(request.param):
        pytest.skip(f"{request.param} is not installed: make .venv/.develop")
    return request.param


@pytest.fixture(scope="module", params=[1, 2], ids=["one", "several"])
def processes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def shared(
    driver: str,
    processes: int,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
) -> Iterator[Listening]:
    listening = Listening(tmp_path_factory.mktemp("listening"), driver, processes)
    yield listening
    listening.kill()


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Quicker than pytest-django's own, which empties every table that there is."""
    with django_db_blocker.unblock():
        yield
        clear()


def clear() -> None:
    """Forget what was sent and heard."""
    with ignore():
        Item.objects.all().delete()
    # A worker may put back messages in flight.
    eventually(lambda: Notification.objects.all().delete() and not Notification.objects.exists())
    LongPayload.objects.all().delete()
    Entry.objects.all().delete()
    sql("TRUNCATE pgpubsub_sql_history")


@pytest.fixture
def listening(shared: Listening, transactional_db: None) -> Listening:
    """It listens, and nothing has been sent yet."""
    shared.start()
    shared.now.ready(shared.processes)
    return shared


@pytest.fixture
def idle(shared: Listening, transactional_db: None) -> Listening:
    """It does not listen, and nothing has been sent yet."""
    if shared.is_running:
        shared.stop()
    return shared


def durable_line(listening: Listening) -> Line:
    return Line(listening, Durable, ItemChannel, Job, "pgpubsub_notify")


def ephemeral_line(listening: Listening) -> Line:
    return Line(listening, Ephemeral, ItemNews, Shout, "pg_notify")


@pytest.fixture
def subscribed(listening: Listening) -> Iterator[Listening]:
    """It listens for two subscriptions, which `migrate` would have registered."""
    register = "INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, %s)"
    for name in ("mail", "search"):
        sql(register, Shared.postgres_name(), name)
    yield listening
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s", Shared.postgres_name())


@pytest.fixture
def durable(listening: Listening) -> Line:
    return durable_line(listening)


@pytest.fixture
def ephemeral(listening: Listening) -> Line:
    return ephemeral_line(listening)


@pytest.fixture(params=[durable_line, ephemeral_line], ids=["durable", "ephemeral"])
def line(request: pytest.FixtureRequest, listening: Listening) -> Line:
    return request.param(listening)
