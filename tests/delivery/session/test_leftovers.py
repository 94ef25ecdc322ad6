"""What a message leaves open: its connection is replaced, and the log says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.listeners import execute
from tests.delivery.sending import drain, jobs
from tests.delivery.session.support import SETTINGS, Seen, mood
from tests.ledger import calls, numbers, stranger
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


LEFTOVERS: dict[str, Callable[[], object]] = {
    "autocommit off": lambda: connection.set_autocommit(False),
    "autocommit off and a write": lambda: (
        connection.set_autocommit(False),
        listeners.note("not committed"),
    ),
    "the driver's autocommit off": lambda: setattr(connection.connection, "autocommit", False),
    "the driver's transaction": lambda: (
        setattr(connection.connection, "autocommit", False),
        execute("SELECT 1"),
    ),
    "BEGIN": lambda: execute("BEGIN"),
    "a block": lambda: transaction.atomic().__enter__(),
    "an isolation level": lambda: setattr(
        connection.connection, "isolation_level", IsolationLevel.SERIALIZABLE
    ),
    "read only": lambda: setattr(
        connection.connection,
        "read_only" if hasattr(connection.connection, "read_only") else "readonly",
        True,
    ),
}


@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize("channel", ["app.Job", "app.Shout"])
def test_what_a_callback_leaves_open_is_logged_and_closed(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    channel: str,
    leftover: str,
) -> None:
    """F44: nothing would ever be committed, and nothing said."""
    mood(monkeypatch, lambda: transaction.on_commit(LEFTOVERS[leftover]))
    for number in (1, 2):
        if channel == "app.Job":
            jobs("leave", "good")
            drain(delivery)
        else:
            hear(delivery, channel, f'{{"number": {number}, "mood": "leave"}}')
    with stranger() as other:
        listener = "do_job" if channel == "app.Job" else "hear"
        other.execute("SELECT count(*) FROM app_entry WHERE listener = %s", [listener])
        assert other.fetchone() == (4 if channel == "app.Job" else 2,)
        other.execute("SELECT count(*) FROM pgpubsub_sql_notification")
        assert other.fetchone() == (0,)
    assert not calls("not committed")
    assert connection.get_autocommit()
    assert f"Code that was called for channel {channel} left " in caplog.text


def test_a_callback_may_close_the_connection(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    seen: Seen,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F41: what it has set on another is not for anybody either."""
    mood(
        monkeypatch,
        lambda: transaction.on_commit(
            lambda: (connection.close(), execute(SETTINGS["search_path"]))  # type: ignore[func-returns-value]
        ),
    )
    jobs("leave", "good")
    drain(delivery)
    jobs("look")
    drain(delivery)
    assert seen == [seen[0]] * 2
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_what_is_left_open_between_batches_is_found_before_the_next(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """F44: such as a receiver of worker_reconnected."""
    drain(delivery)
    jobs("good")
    connection.set_autocommit(False)
    drain(delivery)
    assert connection.get_autocommit()
    assert numbers("do_job") == [1]
    assert "goes on with a new connection" in caplog.text


@pytest.fixture
def no_autocommit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    yield
    connection.close()


@pytest.mark.usefixtures("no_autocommit")
def test_a_database_without_autocommit_is_refused(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    """F44: by whoever would work on it, naming the setting."""
    with pytest.raises(NotReady, match="has AUTOCOMMIT = False in DATABASES"):
        delivery.handle_stored("app.Job")
    hear(delivery, "app.Shout", '{"number": 1}')
    assert "has AUTOCOMMIT = False in DATABASES" in caplog.text
    with pytest.raises(CommandError, match="has AUTOCOMMIT = False in DATABASES"):
        call_command("listen", "--drain", "--worker")
