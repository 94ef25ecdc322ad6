"""How a worker's two connections are made, and where they are refused."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.postgresql.base import Cursor
from django.db.backends.signals import connection_created

from pgpubsub_sql import notify
from pgpubsub_sql.embedded import Server
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.sql.readiness import check_workable
from pgpubsub_sql.worker.connections import hang_up, open_for_worker
from pgpubsub_sql.worker.doorbell import Doorbell, Notify
from pgpubsub_sql.worker.processes import WorkerOptions
from pgpubsub_sql.worker.session import Session
from pgpubsub_sql.worker.supervisor import Supervisor
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Job
from tests.conformance.drivers import BESIDE, environment
from tests.conftest import Listen, eventually
from tests.engine import DatabaseWrapper as Engine
from tests.ledger import backends, listeners_wait, numbers, sql, stored
from tests.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def another(wrapper: Any) -> Iterator[Any]:
    """Let *wrapper* be Django's connection of the alias ``default``."""
    usual = connections["default"]
    connections["default"] = wrapper
    try:
        yield wrapper
    finally:
        hang_up(wrapper)
        connections["default"] = usual


@contextmanager
def anew(engine: Any = None, **options: Any) -> Iterator[Any]:
    """Let the next connections be made by *engine*, with these OPTIONS and the environment."""
    usual = connections["default"]
    changed = usual.settings_dict | {"OPTIONS": usual.settings_dict["OPTIONS"] | options}
    with another((engine or type(usual))(changed, "default")) as wrapper:
        yield wrapper


@contextmanager
def worker_connections(name: str = "") -> Iterator[tuple[Any, Any]]:
    """Connect as a worker does; yield the driver's connections, to listen and to work."""
    doorbell = Doorbell(["app.Job"], using="default", name=name)
    open_for_worker("default")
    doorbell.open()
    session = Session("default", name=name)
    with session.isolation():
        pass
    try:
        yield doorbell._connection, session.connection.connection
    finally:
        doorbell.close()


def shown(raw: Any, setting: str) -> str:
    with raw.cursor() as cursor:
        cursor.execute(f"SHOW {setting}")
        (value,) = cursor.fetchone()
    return str(value)


def options_of(raw: Any) -> dict[str, int]:
    with socket.socket(fileno=os.dup(raw.fileno())) as sock:
        return {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            if hasattr(socket, name)
        } | {"SO_KEEPALIVE": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}


@pytest.fixture
def tcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server, reached by TCP."""
    with Proxy() as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy
        monkeypatch.undo()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has none")
def test_both_connections_notice_a_silent_network(tcp: Proxy) -> None:
    """F38: the work connection had none of these, and waited for two hours."""
    with anew(), worker_connections() as raws:
        for raw in raws:
            assert options_of(raw) == {
                "SO_KEEPALIVE": 1,
                "TCP_KEEPIDLE": 15,
                "TCP_KEEPINTVL": 5,
                "TCP_KEEPCNT": 3,
                "TCP_USER_TIMEOUT": 30_000,
            }


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has none")
def test_keepalive_options_of_the_project_are_kept(tcp: Proxy) -> None:
    """F38: for both connections."""
    with (
        anew(keepalives_idle=77, tcp_user_timeout=88_000, connect_timeout=99) as wrapper,
        worker_connections() as raws,
    ):
        for raw in raws:
            found = options_of(raw)
            assert (found["TCP_KEEPIDLE"], found["TCP_USER_TIMEOUT"]) == (77, 88_000)
            assert found["TCP_KEEPINTVL"] == 5
        assert wrapper.get_connection_params()["connect_timeout"] == 99
    with anew(keepalives=0), worker_connections() as raws:
        assert [options_of(raw)["SO_KEEPALIVE"] for raw in raws] == [0, 0]
        assert [options_of(raw)["TCP_USER_TIMEOUT"] for raw in raws] == [30_000, 30_000]


def test_connecting_to_a_silent_server_times_out(tcp: Proxy) -> None:
    """F38: connecting, too, has an end."""
    with anew() as wrapper:
        open_for_worker("default")
        assert wrapper.get_connection_params()["connect_timeout"] == 10


def test_a_connection_created_receiver_sets_up_both_connections() -> None:
    """F31: without the search_path, each message that had to be stored ended LISTEN."""

    def receiver(connection: Any, **_: Any) -> None:
        assert connection.alias == "default"
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = elsewhere, public; SET work_mem = '5MB'")

    connection_created.connect(receiver)
    try:
        with anew(), worker_connections() as raws:
            assert [shown(raw, "search_path") for raw in raws] == ["elsewhere, public"] * 2
            assert [shown(raw, "work_mem") for raw in raws] == ["5MB"] * 2
    finally:
        connection_created.disconnect(receiver)


def test_the_listen_connection_copies_the_search_path() -> None:
    """F31: as tenants' engines do, whose wrappers know a schema that no receiver sets."""
    with anew() as wrapper:
        with wrapper.cursor() as cursor:
            cursor.execute("SET search_path = acme, public")
        doorbell = Doorbell(["app.Job"], using="default")
        doorbell.open()
        assert shown(doorbell._connection, "search_path") == "acme, public"
        doorbell.close()


@pytest.fixture
def engine() -> Iterator[type[Engine]]:
    """An engine whose pools are empty."""
    yield Engine
    for raw in itertools.chain.from_iterable(Engine.pools.values()):
        raw.close()
    Engine.pools.clear()
    Engine.lent.clear()


def test_an_engine_connects_and_its_pool_lends_to_nobody_else(engine: type[Engine]) -> None:
    """F37: LISTEN handed the driver what only the engine knows."""
    with anew(engine, MAX_CONNS=1) as wrapper:
        open_for_worker("default")
        for _ in range(2):
            doorbell = Doorbell(["app.Job"], using="default")
            doorbell.open()
            sql("SELECT pg_notify('app.Job', '')")
            eventually(lambda bell=doorbell: bell.notifies() == [Notify("app.Job", "")])
            doorbell.close()
            eventually(lambda: backends("pgpubsub_sql listen") == [])
        wrapper.close()


class Particular(Cursor):  # type: ignore[misc, valid-type]
    """A cursor that takes text or the driver's own objects, as tools around drivers do."""

    def execute(self, text: Any, *arguments: Any, **options: Any) -> Any:
        assert type(text) in (str, bytes) or type(text).__module__.startswith("psycopg"), text
        return super().execute(text, *arguments, **options)


def test_the_driver_gets_plain_str() -> None:
    """F37: what has a class called SQL is asked for its as_string() by tools."""
    with anew(cursor_factory=Particular):
        notify(Job(number=1))
        with worker_connections():
            Worker([Job]).drain()
        assert numbers("do_job") == [1]
        call_command("pgpubsub", "disable", "app.ItemChannel", interactive=False)
        call_command("pgpubsub", "uninstall", "app.ItemChannel", interactive=False)
        call_command("pgpubsub", "install", "app.ItemChannel")
        call_command("pgpubsub", "verify")


def test_an_engine_forgets_the_settings_of_a_closed_connection(
    engine: type[Engine],
) -> None:
    """F41: the next one was taken to be in a tenant's schema, and was in nobody's."""
    with anew(engine, MAX_CONNS=1) as wrapper:
        wrapper.ensure_connection()
        wrapper.searched = "acme"
        hang_up(wrapper)
        assert (wrapper.connection, wrapper.searched) == (None, "")


def test_forked_workers_find_no_connection_in_an_engines_pool(
    engine: type[Engine],
) -> None:
    """F43: each would have taken the one that its parent had used, with the others."""
    with anew(engine, MAX_CONNS=1) as wrapper:
        wrapper.ensure_connection()
        Supervisor(WorkerOptions(channels=()), processes=0, start_method="fork").run()
        assert engine.pools["default"] == []


@pytest.mark.parametrize(
    "setting",
    ["idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"],
)
def test_server_timeouts_end_no_session_of_a_worker(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F46: LISTEN was lost at each expiry, and messages with it."""
    if not sql("SELECT name FROM pg_settings WHERE name = %s", setting):
        pytest.skip("the server has no such setting")
    monkeypatch.setenv("PGOPTIONS", f"-c {setting}=9s")
    with anew(), worker_connections() as raws:
        assert [shown(raw, setting) for raw in raws] == ["0", "0"]


def test_both_connections_have_names() -> None:
    with anew(application_name="mysite"), worker_connections() as raws:
        assert [shown(raw, "application_name") for raw in raws] == [
            "pgpubsub_sql listen (mysite)",
            "pgpubsub_sql work (mysite)",
        ]
    with anew(application_name="mysite"), worker_connections("mail-0") as raws:
        assert [shown(raw, "application_name") for raw in raws] == [
            "pgpubsub_sql listen (mail-0)",
            "pgpubsub_sql work (mail-0)",
        ]
    with anew(), worker_connections() as raws:
        assert [shown(raw, "application_name") for raw in raws] == [
            "pgpubsub_sql listen",
            "pgpubsub_sql work",
        ]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_pool_is_neither_forked_nor_used_by_a_worker(
    listen: Callable[..., Listen], method: str
) -> None:
    """F43: forks spoke on one another's connections, and one worker took nine."""
    if not (find_spec("psycopg_pool") or Path(BESIDE, "psycopg_pool").exists()):
        pytest.skip("psycopg_pool is not installed")
    worker = listen(
        *("--channels", "app.Job", "--processes", "2", "--worker-start-method", method),
        DJANGO_SETTINGS_MODULE="tests.pooled",
        **environment("psycopg"),
    ).ready(2)
    for number in range(20):
        notify(Job(number=number))
    eventually(lambda: sorted(numbers("do_job")) == list(range(20)))
    (first,) = re.findall(r"Worker 0 started as process (\d+)", worker.log)
    os.kill(int(first), signal.SIGKILL)
    worker.ready(3)
    notify(Job(number=20))
    eventually(lambda: 20 in numbers("do_job"))
    assert backends("pooled") == []
    assert len(backends("pgpubsub_sql listen (pooled)")) == 2
    assert len(backends("pgpubsub_sql work (pooled)")) <= 2
    assert worker.stop() == 0


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_a_timeout_of_the_role_ends_a_query_and_no_worker(
    listen: Callable[..., Listen], setting: str
) -> None:
    """F13: it counts for listeners as it does elsewhere."""
    with listeners_wait():
        notify(Job(number=1, mood="wait"))
        notify(Job(number=2))
        listen("--channels", "app.Job", PGOPTIONS=f"-c {setting}=500ms").ready()
        eventually(lambda: numbers("do_job") == [2])
        eventually(lambda: f"due to {setting.replace('_', ' ')}" in stored()[1].last_error)
        assert stored()[1].attempts == 1


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_isolation_level_of_the_role_has_no_effect(
    listen: Callable[..., Listen], level: str
) -> None:
    """F13: our transactions are READ COMMITTED."""
    options = f"-c default_transaction_isolation={level}".replace("able ", r"able\ ")
    listen("--channels", "app.Job", PGOPTIONS=options).ready()
    for number in range(3):
        notify(Job(number=number))
    eventually(lambda: numbers("do_job") == [0, 1, 2])


# Where a worker can do nothing.


def test_a_read_only_role_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """F13: each look failed with PostgreSQL's "cannot execute DELETE"."""
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    with anew() as wrapper, pytest.raises(NotReady, match=r"default_transaction_read_only = off"):
        check_workable(wrapper)


OURS = (
    "pgpubsub_sql_notification, pgpubsub_sql_longpayload, pgpubsub_sql_secret, "
    "pgpubsub_sql_subscription, pgpubsub_sql_counter"
)
CALLED = "pgpubsub_key_v1(jsonb), pgpubsub_bucket_v1(text)"


@pytest.fixture
def role() -> Iterator[str]:
    """A role that may do all that a worker does, and sees nothing through row level security."""
    name = f"worker_{uuid.uuid4().hex[:8]}"
    sql(f"CREATE ROLE {name}")
    sql(f"GRANT ALL ON {OURS} TO {name}")
    sql(f"GRANT USAGE ON SEQUENCE pgpubsub_sql_notification_id_seq TO {name}")
    sql(f"GRANT EXECUTE ON FUNCTION {CALLED} TO {name}")
    yield name
    for table in OURS.split(", "):
        sql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        sql(f"DROP POLICY IF EXISTS works ON {table}")
    sql(f"DROP OWNED BY {name}")
    sql(f"DROP ROLE {name}")


@pytest.mark.parametrize("row_security", ["on", "off"])
def test_row_level_security_is_explained(
    role: str, row_security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F12, F13: it handled nothing, and nobody said why."""
    monkeypatch.setenv("PGOPTIONS", f"-c role={role} -c row_security={row_security}")
    owner, policy = connections["default"], "CREATE POLICY works ON pgpubsub_sql_notification"
    with anew() as wrapper, owner.cursor() as cursor:
        check_workable(wrapper)
        cursor.execute("ALTER TABLE pgpubsub_sql_notification ENABLE ROW LEVEL SECURITY")
        with pytest.raises(
            NotReady,
            match=rf"'{role}' lacks .* a policy for SELECT, INSERT, UPDATE, DELETE on",
        ):
            check_workable(wrapper)
        cursor.execute(
            f"CREATE POLICY works ON pgpubsub_sql_notification FOR SELECT TO {role} USING (true)"
        )
        with pytest.raises(NotReady, match=r"lacks privileges .*: a policy for INSERT"):
            check_workable(wrapper)
        cursor.execute("DROP POLICY works ON pgpubsub_sql_notification")
        cursor.execute(f"{policy} USING (true)")
        check_workable(wrapper)
        cursor.execute("ALTER TABLE pgpubsub_sql_longpayload ENABLE ROW LEVEL SECURITY")
        with pytest.raises(
            NotReady, match=r"a policy for SELECT, DELETE on public\.pgpubsub_sql_longp"
        ):
            check_workable(wrapper)
        cursor.execute("ALTER TABLE pgpubsub_sql_longpayload DISABLE ROW LEVEL SECURITY")
        cursor.execute("ALTER TABLE pgpubsub_sql_secret ENABLE ROW LEVEL SECURITY")
        with pytest.raises(NotReady, match=r"a policy for SELECT on public\.pgpubsub_sql_secret"):
            check_workable(wrapper)


def test_a_worker_waits_for_a_standby_to_be_promoted(listen: Callable[..., Listen]) -> None:
    """F13: LISTEN is impossible during recovery, until a failover ends that."""
    with Server(settings={"fsync": "off"}) as server:
        places = server.environment() | {"DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE}
        command = [sys.executable, "-m", "django", "migrate", "--skip-checks", "--verbosity", "0"]
        subprocess.run(command, env=os.environ | places, check=True)
        worker = listen("--channels", "app.Job", "--worker", **places).ready()
        Path(server.host, "data", "standby.signal").touch()
        server.restart()
        eventually(lambda: "is a standby, where NOTIFY and writes are impossible" in worker.log)
        host = {"host": server.host, "port": server.port, "user": server.user}
        with closing(connection.Database.connect(dbname=server.dbname, **host)) as raw:
            raw.cursor().execute("SELECT pg_promote()")
        worker.ready(2)
