"""The drill: what goes wrong is seen where it should be, nowhere else, and no longer than it lasts.

Each calamity is looked at by ``status --check``, ``/livez``, ``/readyz``, the metrics, and the page
of channels.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.retry import LONGEST_SECONDS
from pgpubsub_sql.worker import watch
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import listeners_wait, numbers, sql, stored, waiting
from tests.management.support import run_json
from tests.processes.support import workers
from tests.processes.test_health import checks
from tests.test_prometheus import metrics

pytestmark = pytest.mark.django_db(transaction=True)

DO_JOB = "tests.app.listeners.do_job"
CALL = ("pgpubsub_call_seconds", "default", "app.Job", "", DO_JOB)
READY = ("pgpubsub_messages_ready", "default", "app.Job", "")
OLDEST = ("pgpubsub_oldest_ready_seconds", "default", "app.Job", "")
TRANSACTION = ("pgpubsub_oldest_transaction_seconds", "default")
WORKERS = ("pgpubsub_listening_workers", "default")
MIGRATE = "Run: python manage.py migrate"


class Operator:
    """Looks everywhere at a ``listen`` of one channel, of which nothing is wrong yet."""

    def __init__(self, listener: Listen, processes: int) -> None:
        self.listener = listener
        self.client = Client()
        self.client.force_login(
            User.objects.create(username="op", is_staff=True, is_superuser=True)
        )
        sql("DELETE FROM pgpubsub_sql_notification")  # of the user
        listener.ready(processes)
        self.pids = workers(listener)

    def problems(self, *limits: str) -> list[str]:
        """Return what ``status --check`` says of this channel and of the server."""
        return list(run_json("status", "app.Job", *limits)["problems"])

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says so, while ``/livez`` never says anything else than yes."""
        assert checks(self.listener, "/livez") == (200, {"alive": True})
        return checks(self.listener, "/readyz")[0] == 200

    def page(self) -> str:
        """Return the words of the page of channels."""
        response = self.client.get("/admin/pgpubsub_sql/channel/")
        assert response.status_code == 200
        return " ".join(re.sub(r"<[^>]*>", " ", unescape(response.content.decode())).split())

    def all_is_quiet(self) -> bool:
        """Whether there is nothing to be seen, with the strictest limits."""
        strict = ("--max-age", "1s", "--max-transaction", "0s")
        page = self.page()
        calm = "What takes long" not in page and "Oldest transaction none is open" in page
        found = metrics()
        is_low = CALL not in found and not found.get(READY) and not found[TRANSACTION]
        return calm and is_low and not self.problems(*strict) and self.is_ready()

    def nobody_was_restarted(self) -> bool:
        """Whether the processes are those that began."""
        return workers(self.listener) == self.pids


@pytest.fixture
def operate(
    listen: Callable[..., Listen], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Operator]]:
    monkeypatch.setattr("pgpubsub_sql.admin.databases.KNOWN_SECONDS", 0.0)
    # The other database is made only for tests that ask for it.
    monkeypatch.setattr("pgpubsub_sql.admin.databases.our_databases", lambda: ["default"])
    started: list[Operator] = []

    def start(*arguments: str, processes: int = 1, **options: Any) -> Operator:
        given = ["--channels", "app.Job", "--health-port", "0", "--processes", str(processes)]
        started.append(Operator(listen(*given, *arguments, **options), processes))
        eventually(started[-1].all_is_quiet)
        return started[-1]

    yield start
    for one in started:
        eventually(one.all_is_quiet)
        assert one.listener.stop() == 0


def test_a_worker_is_killed(operate: Callable[..., Operator]) -> None:
    operator = operate(processes=2)
    assert operator.page().count("reads what is sent to it") == 2
    os.kill(operator.pids[0], signal.SIGKILL)
    eventually(lambda: not operator.is_ready())
    assert operator.problems() == []  # the other one works
    eventually(operator.is_ready)
    eventually(lambda: operator.page().count("reads what is sent to it") == 2)
    assert metrics()[WORKERS] == 2


def a_listener_hangs(operator: Operator) -> None:
    with listeners_wait():
        jobs("wait")
        eventually(
            lambda: (
                f"What takes long Listener Channel Message For Worker {DO_JOB}" in (operator.page())
            )
        )
        assert metrics()[CALL] > 1
        assert operator.problems() == []  # it has not taken long enough
        (problem,) = operator.problems("--max-age", "1s")
        assert f"app.Job: {DO_JOB} has been handling message" in problem
        assert operator.is_ready()  # a restart by the orchestrator would not help
    eventually(lambda: numbers("do_job") == [1])


def a_channel_is_flooded(operator: Operator) -> None:
    with listeners_wait():
        jobs("wait")
        eventually(waiting)
        sql(
            "INSERT INTO pgpubsub_sql_notification (channel, payload, available_at) "
            "SELECT 'app.Job', jsonb_build_object('number', n), now() - interval '10 minutes' "
            "FROM generate_series(1, 200) AS n"
        )
        (problem,) = operator.problems()
        assert problem.startswith("app.Job: the oldest message has been due for 0:10:0")
        assert "Run more workers, or find out what keeps them busy" in problem
        assert re.search(r" app\.Job 0 200 0 1 10 minutes none ", operator.page())
        found = metrics()
        assert (found[READY], found[OLDEST] >= 600) == (200, True)
        assert operator.is_ready()  # or it would block the rollout of what helps
    eventually(lambda: not stored())


def a_migration_is_forgotten(operator: Operator) -> None:
    rows = sql("DELETE FROM django_migrations WHERE app = 'app' RETURNING name, applied")
    try:
        assert MIGRATE in operator.page()
        assert operator.problems() == []  # pgpubsub verify is for that
        assert operator.is_ready()
    finally:
        for name, applied in rows:
            sql(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('app', %s, %s)",
                name,
                applied,
            )
    assert MIGRATE not in operator.page()


def a_transaction_stays_open(operator: Operator) -> None:
    lazy = connections.create_connection("default")
    with closing(lazy), lazy.cursor() as cursor:
        cursor.execute("SET application_name = 'a report'")
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT 1")
        assert re.search(r"Oldest transaction open for \d+ seconds?: a report ", operator.page())
        (problem,) = operator.problems("--max-transaction", "0s")
        assert problem.startswith("The transaction of a report (")
        assert metrics()[TRANSACTION] > 0
        assert operator.problems() == []  # it has not been open for long enough
        assert operator.is_ready()


def test_nothing_that_goes_wrong_around_it_restarts_a_worker(
    operate: Callable[..., Operator],
) -> None:
    """Each is seen, and no longer when it is over."""
    operator = operate()
    for calamity in (
        a_listener_hangs,
        a_channel_is_flooded,
        a_migration_is_forgotten,
        a_transaction_stays_open,
    ):
        calamity(operator)
        eventually(operator.all_is_quiet)
    assert operator.nobody_was_restarted()


OUTAGE = """
import sys
import django

django.setup()
from django.core.management import execute_from_command_line
from pgpubsub_sql import retry
from pgpubsub_sql.worker import watch

# A minute in two seconds.
watch.IDLE_SECONDS, watch.SURE_SECONDS, retry.LONGEST_SECONDS = 2.0, 0.1, 1.0
execute_from_command_line(sys.argv)
"""


@contextmanager
def database_is_down() -> Iterator[None]:
    """Have the server refuse every connection to this database, and end those that there are."""
    name = connection.settings_dict["NAME"]
    parameters = connection.get_connection_params() | {"dbname": "postgres"}
    connection.close()
    with closing(connection.Database.connect(**parameters)) as raw:
        raw.autocommit = True
        cursor = raw.cursor()
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        yield
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_database_that_is_down_for_long_restarts_nothing(
    operate: Callable[..., Operator], server: Server
) -> None:
    command = (sys.executable, "-c", OUTAGE, "listen", "--loglevel", "debug")
    operator = operate("--worker-start-method", "fork", command=command)
    with database_is_down():
        eventually(lambda: not operator.is_ready())
        assert metrics()["pgpubsub_up", "default"] == 0
        before = operator.listener.log.count("Cannot listen: ")
        # Half a second at least between two of the later ones: longer than what kills idle workers.
        eventually(lambda: operator.listener.log.count("Cannot listen: ") >= before + 7)
    eventually(operator.is_ready)
    connection.close()
    listening = operator.listener.log.count("Listening to")
    server.restart()
    eventually(lambda: operator.listener.log.count("Listening to") > listening)
    eventually(operator.is_ready)
    assert operator.nobody_was_restarted()
    jobs("good")
    eventually(lambda: numbers("do_job") == [1])


def test_a_worker_that_waits_for_its_database_gives_signs_of_life() -> None:
    """What the test before takes quicker."""
    assert LONGEST_SECONDS < watch.IDLE_SECONDS
