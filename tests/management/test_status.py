"""``manage.py pgpubsub status``: what is stored, who works, and what is wrong."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from pgpubsub_sql import conf, notify
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import listeners_wait, numbers, sql, waiting
from tests.management.support import run, run_json
from tests.stored import HOUR, NAME, in_flight, park, retrying, store

NOBODY = "No worker listens on this database. To start one: python manage.py listen"


def row(name: str = NAME) -> dict[str, Any]:
    (found,) = run_json("status", name)["channels"]
    return dict(found)


def checked(*argv: str) -> list[str]:
    """Return the problems that ``status --check`` reports."""
    with pytest.raises(CommandError) as caught:
        call_command("pgpubsub", "status", "--check", *argv, stdout=io.StringIO())
    assert caught.value.returncode == 1
    return str(caught.value).splitlines()


def test_messages_are_counted_by_state(db: None) -> None:
    """F55: what failed and waits for its next attempt is not counted as sent with a delay."""
    store(available_at=timezone.now() - HOUR)
    store()
    park()
    store(available_at=timezone.now() + HOUR)
    store(available_at=timezone.now() + HOUR, alone=True)
    retrying(attempts=1)
    found = row()
    assert found.pop("oldest") >= 3600
    assert found.pop("handled_per_minute") >= 0
    assert found.pop("failed_per_minute") >= 0
    assert found == {
        "channel": NAME,
        "subscription": "",
        "ready": 2,
        "in_flight": 0,
        "waiting": 3,
        "failed": 2,
        "parked": 1,
        "in_flight_seconds": None,
        "in_flight_pid": None,
        "paused_seconds": None,
        "filled_to": None,
        "fill_until": None,
        "has_listener": True,
        "is_polled": False,
    }


def store_many(number: int, available_at: str, failed_at: str = "NULL") -> None:
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload, available_at, failed_at)"
        f" SELECT %s, '{{}}', {available_at}, {failed_at} FROM generate_series(1, {number})",
        NAME,
    )


def test_messages_are_counted_to_ten_thousand(db: None) -> None:
    store_many(10_000, "clock_timestamp()")
    store_many(10_002, "clock_timestamp() + interval '1 day'")
    found = row()
    assert (found["ready"], found["waiting"], found["failed"]) == (10_000, 10_001, 0)
    assert re.search(rf"^{NAME} +10,000 +0 +10,000\+ +0 +0 ", run("status"), re.MULTILINE)
    store()
    assert row()["ready"] == 10_001
    assert re.search(rf"^{NAME} +10,000\+ ", run("status"), re.MULTILINE)


def test_what_is_not_counted_of_the_failed_is_a_problem(db: None) -> None:
    """A parked message behind ten thousand that will be retried is not counted."""
    store_many(9_999, "clock_timestamp() + interval '1 day'", "clock_timestamp()")
    park()
    assert checked("--max-parked", "1") == [NOBODY]
    park()
    assert (row()["failed"], row()["parked"]) == (10_001, 2)
    words = "More than 10,000 messages of app.Job have failed."
    assert words in run("status")
    assert re.search(rf"^{NAME} .* 10,000\+ +2\+", run("status"), re.MULTILINE)
    problem, nobody = checked("--max-parked", "2")
    assert problem.startswith(words)
    assert nobody == NOBODY


def test_polled_channels_are_marked(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    legend = "\n* Workers poll this channel; its writers do not notify them.\n"
    assert legend not in run("status")
    monkeypatch.setattr(Job, "notify", False)
    assert row()["is_polled"]
    assert f"\n{NAME} *  " in run("status")
    assert legend in run("status")
    assert not row("app.Shout")["is_polled"]
    monkeypatch.setattr(conf, "is_notify_used", lambda: False)
    assert not row("app.Shout")["is_polled"]  # ephemeral
    assert legend not in run("status", "app.Shout")


def test_messages_in_flight_are_not_ready(transactional_db: None) -> None:
    """F58: a message whose listener hung counted as ready."""
    held, free = store(), store()
    with in_flight(held.pk) as pid:
        found = row()
        assert (found["ready"], found["in_flight"], found["in_flight_pid"]) == (1, 1, pid)
        assert found["in_flight_seconds"] < 60
        problems = checked("--max-age", "0s")
        assert any(f"in process {pid} of the server" in one for one in problems)
        assert "in flight: " in run("show", str(held.pk))
        assert "ready: the next free worker handles it" in run("show", str(free.pk))
    assert (row()["ready"], row()["in_flight"]) == (2, 0)


def test_the_table_fits_80_columns(db: None) -> None:
    """F57: long names are broken into lines, not cut."""
    name = "app.AChannelWithALongName" + "e" * 38
    store(channel=name)
    head, rule, *lines = run("status").splitlines()
    columns = re.split("  +", head.strip())
    counted = ["ready", "in flight", "waiting", "failed", "parked", "oldest"]
    assert columns == ["channel", *counted]
    assert len(rule) <= 80
    assert name in "".join(line[: len(rule.split()[0])].strip() for line in lines)


def test_a_channel_without_listeners_is_shown_and_reported(db: None) -> None:
    """F58: a missing listener is told from a missing worker."""
    store(channel="app.Gone")
    (found,) = [one for one in run_json("status")["channels"] if one["channel"] == "app.Gone"]
    assert (found["ready"], found["has_listener"]) == (1, False)
    words = "No listener is declared for app.Gone, so nobody handles 1 message."
    assert words in run("status", "app.Gone")
    assert words in checked("app.Gone")[0]


def test_workers_are_counted(transactional_db: None, listen: Callable[..., Listen]) -> None:
    assert run_json("status")["workers"] == 0
    assert "\n0 workers listen on this database; " in run("status")
    worker = listen("--processes", "2", "--channels", NAME).ready(2)
    assert run_json("status")["workers"] == 2
    assert "\n2 workers listen on this database; " in run("status")
    assert run("status", "--check").count("\n") == run("status").count("\n") - 1
    worker.stop()
    eventually(lambda: run_json("status")["workers"] == 0)


def test_the_usage_of_the_notify_queue_is_printed(db: None) -> None:
    assert 0 <= run_json("status")["queue_usage"] < 1
    assert "NOTIFY queue is 0.0% full" in run("status")


def test_check_fails_without_a_worker(
    transactional_db: None, listen: Callable[..., Listen]
) -> None:
    """F58: ``status`` exited with 0 whatever was wrong."""
    assert checked() == [NOBODY]
    assert run_json("status")["problems"] == [NOBODY]
    listen("--channels", NAME).ready()
    run("status", "--check")
    assert run_json("status", "--check")["problems"] == []


def test_check_fails_if_messages_are_due_for_too_long(db: None) -> None:
    """F58."""
    store(available_at=timezone.now() - timedelta(minutes=6))
    late, nobody = checked()
    assert late.startswith(f"{NAME}: the oldest message has been due for 0:06:0")
    assert nobody == NOBODY
    assert checked("--max-age", "10m") == [NOBODY]


def test_check_fails_if_too_many_messages_are_parked(db: None) -> None:
    """F58."""
    park()
    park()
    words = "2 messages are parked. To see why: python manage.py pgpubsub parked"
    assert checked() == [words, NOBODY]
    assert checked("--max-parked", "2") == [NOBODY]


def test_check_fails_if_the_notify_queue_is_too_full(
    transactional_db: None, django_db_blocker: Any, listen: Callable[..., Listen]
) -> None:
    """F58: a session that listens but does not read fills the queue."""
    lazy = connections.create_connection("default")
    with closing(lazy), lazy.cursor() as cursor:
        cursor.execute("LISTEN something")
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1")
        with connection.cursor() as writer:
            writer.execute(
                "SELECT pg_notify('something', n || repeat('x', 7000))"
                " FROM generate_series(1, 200) AS n"
            )
        problems = checked("--max-queue", "0%")
    assert any("NOTIFY queue is" in one and "pg_stat_activity" in one for one in problems)


def test_check_fails_if_a_transaction_keeps_vacuum_from_its_work(
    transactional_db: None, listen: Callable[..., Listen]
) -> None:
    lazy = connections.create_connection("default")
    with closing(lazy), lazy.cursor() as cursor:
        cursor.execute("SET application_name = 'a report'")
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_backend_pid(), pg_current_xact_id()")
        pid = cursor.fetchone()[0]
        nobody, problem = checked("--max-transaction", "0s")
        assert problem.startswith(f"The transaction of a report ({pid}) has been open for 0:00:0")
        assert f"End it (pg_terminate_backend({pid})), or" in problem
        assert nobody == NOBODY
        assert checked() == [NOBODY]
        assert run_json("status")["oldest_transaction"]["pid"] == pid
    eventually(lambda: run_json("status")["oldest_transaction"] is None)


def test_a_prepared_transaction_is_reported(transactional_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_current_xact_id()")
        cursor.execute("PREPARE TRANSACTION 'half done'")
    try:
        problem = checked("--max-transaction", "0s")[-1]
        assert problem.startswith("The transaction of half done has been open")
        assert "ROLLBACK PREPARED" in problem
    finally:
        sql("ROLLBACK PREPARED 'half done'")


def test_check_fails_if_many_rows_are_dead(transactional_db: None) -> None:
    assert checked("--max-dead", "100000") == [NOBODY]
    store_many(100, "clock_timestamp()")
    sql("DELETE FROM pgpubsub_sql_notification")
    sql("SELECT pg_stat_force_next_flush()" if connection.pg_version >= 150000 else "SELECT 1")
    eventually(lambda: run_json("status")["dead_rows"] >= 100)
    problem = checked("--max-dead", "99")[-1]
    assert problem.startswith("The table of messages has 1")
    assert ", and was vacuumed " in problem
    sql("VACUUM pgpubsub_sql_notification")
    eventually(lambda: run_json("status")["dead_rows"] == 0)
    assert run_json("status")["vacuum_seconds"] < 30


def test_a_worker_that_does_not_read_is_reported(
    transactional_db: None, listen: Callable[..., Listen]
) -> None:
    """F50: its server process waits in a transaction, and keeps vacuum from its work."""
    worker = listen("--channels", NAME, "app.Shout").ready()
    with listeners_wait():
        notify(Job(number=1, mood="wait"))
        eventually(lambda: waiting() == 1)
        assert run_json("status")["behind"] == 0
        message = "json_build_object('number', n, 'text', repeat('x', 7000))::text"
        sql(f"SELECT pg_notify('app.Shout', {message}) FROM generate_series(1, 1000) AS n")
        words = "1 worker cannot be sent more: while a listener runs"
        eventually(lambda: words in "\n".join(run_json("status")["problems"]))
        ((has_snapshot,),) = sql(
            "SELECT backend_xmin IS NOT NULL FROM pg_stat_activity "
            "WHERE application_name = 'pgpubsub_sql listen'"
        )
        assert has_snapshot
    eventually(lambda: len(numbers("hear")) == 1000)
    assert run_json("status")["behind"] == 0
    assert worker.stop() == 0


@pytest.mark.parametrize("value", ["many", "10001", "-1"])
def test_an_invalid_number_of_parked_messages_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="is not a number from 0 to 10000"):
        run("status", f"--max-parked={value}")


@pytest.mark.parametrize("value", ["much", "101", "-1"])
def test_an_invalid_percentage_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="is not a percentage from 0 to 100"):
        run("status", f"--max-queue={value}")


def test_nothing_is_reported_if_all_is_handled(
    transactional_db: None, listen: Callable[..., Listen]
) -> None:
    notify(Job(number=1))
    listen("--channels", NAME).ready()
    eventually(lambda: row()["ready"] == 0 and row()["in_flight"] == 0)
    assert json.loads(run("status", NAME, "--json"))["problems"] == []
