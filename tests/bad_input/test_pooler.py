"""A pooler in front of LISTEN, which answers that all is well and never delivers anything."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql import notify
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.worker import doorbell as doorbell_module
from pgpubsub_sql.worker.doorbell import Doorbell
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import numbers, sql
from tests.workers import asleep, fall_asleep

pytestmark = pytest.mark.django_db(transaction=True)
PORT = 6432
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
unix_socket_dir = {directory}
listen_addr =
listen_port = {PORT}
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits
"""


def answers(path: str) -> bool:
    """Whether something accepts connections at this socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


@contextmanager
def pgbouncer(mode: str, *more: str) -> Iterator[str]:
    """Run a PgBouncer in front of the tests' server; return the directory of its socket."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    parameters = connection.get_connection_params()
    place = {
        "host": parameters.get("host") or os.environ["PGHOST"],
        "port": parameters.get("port") or os.environ["PGPORT"],
        "user": parameters.get("user") or os.environ["PGUSER"],
    }
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)  # it does not run as root, and makes its socket here
        configuration = Path(directory, "pgbouncer.ini")
        configuration.write_text(
            CONFIGURATION.format(directory=directory, mode=mode, PORT=PORT, **place)
            + "\n".join(more)
        )
        account: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
        with subprocess.Popen([program, "-q", str(configuration)], **account) as process:
            try:
                eventually(lambda: answers(f"{directory}/.s.PGSQL.{PORT}"))
                yield directory
            finally:
                process.terminate()


@contextmanager
def through(directory: str) -> Iterator[None]:
    """Let what connects from now on, child processes too, go through a PgBouncer."""
    connection.ensure_connection()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGHOST", directory)
        patch.setenv("PGPORT", str(PORT))
        yield


def test_a_pooler_in_transaction_mode_is_named_instead_of_listening_in_vain(
    listen: Callable[..., Listen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "PROBE_SECONDS", 0.5)
    with pgbouncer("transaction") as directory:
        with through(directory):
            doorbell = Doorbell(["app.Job"], using="default")
            with pytest.raises(NotReady, match=r"A pooler in transaction mode \(PgBouncer"):
                doorbell.open()
            doorbell.close()
            worker = listen("--channels", "app.Job")
        eventually(lambda: "Have the worker connect to PostgreSQL directly" in worker.log)
        assert "Listening to" not in worker.log
        worker.kill()


def session_of(directory: str) -> tuple[Any, ...]:
    """What the next client of a pooler meets: whose session, its settings, what it listens to."""
    parameters = connection.get_connection_params() | {"host": directory, "port": PORT}
    raw = connection.Database.connect(**parameters)
    try:
        with raw.cursor() as cursor:
            cursor.execute(
                "SELECT pg_backend_pid(), array(SELECT pg_listening_channels()), "
                "array(SELECT name || ' = ' || setting FROM pg_settings WHERE source = 'session' "
                "AND name NOT IN ('TimeZone', 'application_name') ORDER BY name)"
            )
            return tuple(cursor.fetchone())
    finally:
        raw.rollback()
        raw.close()


def test_nothing_is_left_to_the_next_client_of_a_pooler(listen: Callable[..., Listen]) -> None:
    """F48: web sessions were without idle_in_transaction_session_timeout from then on."""
    notify(Job(number=1))
    with pgbouncer("transaction", "default_pool_size = 1") as directory:
        before = session_of(directory)
        with through(directory):
            assert listen("--channels", "app.Job", "--drain", "--worker").process.wait(30) == 0
            assert numbers("do_job") == [1]
            assert session_of(directory) == before
            doorbell = Doorbell(["app.Job"], using="default")
            with pytest.raises(NotReady, match="LISTEN is impossible on 'default'"):
                doorbell.open()
            doorbell.close()
        assert session_of(directory) == before


def test_writers_behind_a_pooler_in_transaction_mode_wake_a_worker() -> None:
    """Their locks end with their transactions, though other clients go on in the same session."""
    with pgbouncer("transaction", "default_pool_size = 1") as directory, asleep(Job) as worker:
        parameters = connection.get_connection_params() | {"host": directory, "port": PORT}
        clients = [connection.Database.connect(**parameters) for _ in range(3)]
        try:
            for number, raw in enumerate(clients * 5):
                fall_asleep(worker)
                with raw.cursor() as cursor:
                    cursor.execute("SAVEPOINT one")
                    cursor.execute("SELECT pgpubsub_notify('app.Job', '{\"number\": -1}')")
                    cursor.execute("ROLLBACK TO one")
                    cursor.execute(
                        "SELECT pgpubsub_notify('app.Job', jsonb_build_object('number', %s))",
                        [number],
                    )
                raw.commit()
                eventually(
                    lambda count=number + 1: worker.step() or len(numbers("do_job")) == count
                )
        finally:
            for raw in clients:
                raw.close()
    assert numbers("do_job") == list(range(15))


def test_a_pooler_in_session_mode_lets_hear(listen: Callable[..., Listen]) -> None:
    with pgbouncer("session") as directory:
        with through(directory):
            worker = listen("--channels", "app.Job", "app.Shout").ready()
        sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
        eventually(lambda: numbers("hear") == [1])
        worker.kill()


class Pooled(Doorbell):
    """Takes what answers it for a pooler."""

    def _is_pooled(self) -> bool:
        assert not super()._is_pooled()
        return True


class Deaf(Pooled):
    """Its LISTEN is undone as soon as it has been taken, as behind a pooler."""

    def _verify(self, listening: set[str]) -> None:
        super()._verify(listening)
        with self._connection.cursor() as cursor:
            cursor.execute("UNLISTEN *")


def test_what_is_not_heard_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell_module, "PROBE_SECONDS", 0.1)
    doorbell = Deaf(["app.Job", "app.Shout"], using="default")
    with pytest.raises(NotReady, match=r"No NOTIFY arrives from 'default'\. A pooler"):
        doorbell.open()
    doorbell.close()


def test_what_is_heard_through_a_pooler_is_nobodys_message() -> None:
    doorbell = Pooled(["app.Job", "app.Shout"], using="default")
    doorbell.open()
    assert doorbell.notifies() == []
    doorbell.close()
