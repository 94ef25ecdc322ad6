"""Times of messages, which are the server's, to the microsecond."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from pgpubsub_sql import Notification, notify
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.worker.attempts import notification
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Step
from tests.app.listeners import called
from tests.delivery.sending import drain
from tests.ledger import calls, numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)

BERLIN = "Europe/Berlin"
SUMMER, WINTER = "2026-10-25 02:30:00.123456+02", "2026-10-25 02:30:00.123457+01"
"""Of the night in which the clocks of Berlin show this hour twice."""


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def berlin(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A database whose times Django reads and writes as Berlin's, with and without USE_TZ."""
    settings.USE_TZ = request.param
    if settings.USE_TZ:
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", BERLIN)
    else:
        settings.TIME_ZONE = BERLIN
    reconnect()
    yield settings
    monkeypatch.undo()
    reconnect()


def reconnect() -> None:
    """Have the connection's time zone read again."""
    connection.close()
    for name in ("timezone", "timezone_name"):
        vars(connection).pop(name, None)


def stored_times() -> list[tuple[str, ...]]:
    """Return the times of what is stored, spelled in UTC."""
    columns = ", ".join(
        f"to_json({name} AT TIME ZONE 'UTC') #>> '{{}}'"
        for name in ("created_at", "available_at", "expires_at")
    )
    return sql(f"SELECT {columns} FROM pgpubsub_sql_notification ORDER BY id")


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("days", [100, 182, 260])
def test_a_delay_is_counted_in_seconds(days: int) -> None:
    """F47: a day of the session's calendar may have 23 hours, or 25."""
    notify(Job(1), delay=datetime.timedelta(days=days, microseconds=500_000))
    ((seconds,),) = sql(
        "SELECT extract(epoch FROM available_at - clock_timestamp())::float8"
        " FROM pgpubsub_sql_notification"
    )
    assert -60 < seconds - days * 86400 <= 0.5


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("delay", [datetime.timedelta.max, datetime.timedelta.min])
def test_a_delay_beyond_the_calendar_is_refused(delay: datetime.timedelta) -> None:
    """F47: the server would have ended the sender's transaction."""
    with pytest.raises(PayloadError, match=r"app\.Job: the delay .* longer than a thousand years"):
        notify(Job(1), delay=delay)


@pytest.mark.usefixtures("berlin", "patience")
@pytest.mark.parametrize("channel", [Job, Step])
@pytest.mark.parametrize("is_stopping", [True, False])
def test_released_messages_keep_their_times(channel: Any, is_stopping: bool) -> None:
    """F47: in the hour that clocks repeat, and where Python has no time; to the microsecond."""
    times = [
        (SUMMER, SUMMER, "2126-10-31 02:30+01"),
        (WINTER, WINTER, "9999-12-31 23:59:59.999999+00"),
        ("infinity", "-infinity", "infinity"),
    ]
    for one in times:
        sql(
            "INSERT INTO pgpubsub_sql_notification (channel, payload, key, created_at,"
            " available_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s)",
            channel.postgres_name(),
            '{"account": "a", "number": 1, "mood": "bad"}',
            "[1]" if channel is Step else None,
            *one,
        )
    before, ids = stored_times(), [row.pk for row in rows()]
    delivery = Delivery([channel], using="default", is_stopping=lambda: is_stopping)
    called.clear()
    while not called:  # what has no key has its turn first
        delivery.handle_stored(channel.postgres_name())
    after = stored_times()
    assert [(one[0], one[2]) for one in after] == [(one[0], one[2]) for one in before]
    given_back = [number for number, row in enumerate(rows()) if not row.attempts]
    assert [after[number] for number in given_back] == [before[number] for number in given_back]
    assert len(called) == 3 - len(given_back) == (1 if channel is Step or is_stopping else 3)
    assert [row.pk for row in rows()] == ids


def rows() -> list[Notification]:
    """Return what is stored, without the times: Python has none for some."""
    times = ("created_at", "available_at", "expires_at")
    return list(Notification.objects.defer(*times).order_by("id"))


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("fold", "meant"), [(0, SUMMER), (1, WINTER)])
@pytest.mark.parametrize("option", ["at", "expires"])
def test_the_repeated_hour_is_unambiguous(
    settings: Any, fold: int, meant: str, option: str
) -> None:
    """F47: PostgreSQL knows no ``fold``."""
    moment = datetime.datetime.fromisoformat(meant).replace(tzinfo=None, fold=fold)
    if settings.USE_TZ:
        moment = datetime.datetime.fromisoformat(meant)
    notify(Job(1), **{option: moment})
    column = {"at": "available_at", "expires": "expires_at"}[option]
    assert sql(f"SELECT {column} = %s::timestamptz FROM pgpubsub_sql_notification", meant) == [
        (True,)
    ]


def test_listeners_get_times_as_django_reads_them(berlin: Any) -> None:
    notify(Job(1))
    (row,) = Notification.objects.all()
    ((text,),) = sql("SELECT created_at::text FROM pgpubsub_sql_notification")
    given = notification("default", created_at=text).created_at
    assert (given, given.tzinfo is None) == (row.created_at, not berlin.USE_TZ)
    assert notification("default", created_at="infinity").created_at is None


def test_messages_with_times_beyond_python_are_handled(berlin: Any) -> None:
    """F47: a claim with one such row failed again and again, and the channel with it."""
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload, created_at, available_at)"
        " VALUES ('app.Job', '{\"number\": 1}', 'infinity', '-infinity'),"
        " ('app.Job', '{\"number\": 2}', '0044-03-15 BC', '0044-03-15 BC')"
    )
    drain(Delivery([Job], using="default"))
    assert numbers("do_job") == [1, 2]
    assert [data["attempts"] for data in calls("do_job")] == [0, 0]


def test_the_server_compares_messages_with_migrations(berlin: Any) -> None:
    """F47: applied in the first of the two hours, it is older than what came in the second."""
    MigrationRecorder(connection).record_applied("app", "9999_in_the_night")
    applied = "2026-10-25 02:40+02"
    sql("UPDATE django_migrations SET applied = %s WHERE name = '9999_in_the_night'", applied)
    notify(Job(1))
    sql("UPDATE pgpubsub_sql_notification SET created_at = %s", WINTER)
    try:
        assert not Notification.objects.before_migration("app", "9999_in_the_night").exists()
    finally:
        MigrationRecorder(connection).record_unapplied("app", "9999_in_the_night")
