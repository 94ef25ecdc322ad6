"""The session is the worker's own again, whatever a message has left it in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created
from django.utils.module_loading import import_string

from example.blog.models import Author, Post
from pgpubsub_sql import notify, signals
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker import baseline
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import ItemChannel, Job
from tests.app.listeners import called, execute
from tests.app.models import Item
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs
from tests.ledger import calls, numbers, sql, stored, stranger
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = {
    "search_path": "SET search_path = tenant",
    "role": "SET ROLE weak",
    "session_authorization": "SET SESSION AUTHORIZATION weak",
    "default_transaction_read_only": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "default_transaction_isolation": "SET default_transaction_isolation = 'serializable'",
    "statement_timeout": "SELECT set_config('statement_timeout', '7min', false)",
    "lock_timeout": "SET LOCAL lock_timeout = '7min'",
    "idle_in_transaction_session_timeout": "SET idle_in_transaction_session_timeout = '7min'",
    "row_security": "SET row_security = off",
    "TimeZone": "SET TIME ZONE 'Asia/Tokyo'",
    "DateStyle": "SET datestyle = 'German, DMY'",
    "IntervalStyle": "SET intervalstyle = 'iso_8601'",
    "client_encoding": "SET client_encoding = 'LATIN1'",
    "session_replication_role": "SET session_replication_role = replica",
    "pgpubsub.ignore": "SET pgpubsub.ignore = 'true'",
    "pgpubsub.notification_context": """SET pgpubsub.notification_context = '{"user": 7}'""",
}
"""What a listener may change, and how."""

TENANT = """
    DROP SCHEMA IF EXISTS tenant CASCADE;
    CREATE SCHEMA tenant;
    CREATE TABLE tenant.pgpubsub_sql_notification (
        LIKE public.pgpubsub_sql_notification INCLUDING ALL
    );
    CREATE TABLE tenant.app_entry (LIKE public.app_entry INCLUDING ALL);
    DROP ROLE IF EXISTS weak;
    CREATE ROLE weak;
"""


@pytest.fixture(autouse=True)
def tenant(transactional_db: None) -> Iterator[None]:
    """Another schema with tables of the same names, and a role that may do nothing."""
    with stranger() as other:
        other.execute(TENANT)
        yield
        connection.close()
        other.execute("DROP SCHEMA tenant CASCADE; DROP ROLE weak")


def settings() -> dict[str, str]:
    """The session's settings as they are now."""
    return {name: sql("SELECT current_setting(%s, true)", name)[0][0] or "" for name in SETTINGS}


class Seen(list[dict[str, str]]):
    """The settings as messages find them."""

    def __call__(self) -> None:
        self.append(settings())


@pytest.fixture
def seen(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What messages in the mood "look" find; first of all, what there was before."""
    drain(delivery)
    seen = Seen()
    seen()
    monkeypatch.setitem(listeners.MOODS, "look", seen)
    return seen


def mood(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Have messages in the mood "leave" do this."""
    monkeypatch.setitem(listeners.MOODS, "leave", lambda: [step() for step in steps])


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_a_message_are_restored_after_it(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, seen: Seen, name: str
) -> None:
    """F41: its neighbours, and what is put back, are where they were."""
    mood(monkeypatch, partial(execute, SETTINGS[name]))
    jobs("leave", "bad", "look", "leave", "look", "bad")
    drain(delivery)
    assert called == [1, 2, 3, 4, 5, 6]
    assert seen == [seen[0]] * 3
    assert settings() == seen[0]
    assert sorted(stored()) == [2, 6]
    assert numbers("do_job") == [1, 3, 4, 5]
    with stranger() as other:
        other.execute("SELECT count(*) FROM tenant.pgpubsub_sql_notification")
        assert other.fetchone() == (0,)


WAYS: dict[str, list[Callable[[str], object]]] = {
    "and fails": [execute, lambda _: listeners.fail("after a SET")],
    "after a COMMIT": [lambda _: listeners.commit_raw(), execute],
    "before a COMMIT": [execute, lambda _: listeners.commit_raw()],
    "around a COMMIT, and fails": [
        execute,
        lambda _: listeners.commit_raw(),
        execute,
        lambda _: listeners.fail("after a COMMIT"),
    ],
    "before a COMMIT, and breaks": [
        execute,
        lambda _: listeners.commit_raw(),
        lambda _: execute("SELECT no_such_column"),
    ],
    "after a ROLLBACK": [lambda _: connection.connection.rollback(), execute],
    "in a callback": [lambda text: transaction.on_commit(partial(execute, text))],
    "in a robust callback": [
        lambda text: transaction.on_commit(partial(execute, text), robust=True)
    ],
    "in a callback, and fails": [
        lambda text: transaction.on_commit(
            lambda: (execute(text), listeners.fail("in a callback"))  # type: ignore[func-returns-value]
        )
    ],
    "on the driver's cursor": [lambda text: listeners.raw_cursor().execute(text)],
    "on the driver's cursor in a callback": [
        lambda text: transaction.on_commit(lambda: listeners.raw_cursor().execute(text))
    ],
}


def handle(delivery: Delivery, channel: str, *moods: str) -> None:
    """Send a message per mood on a channel of whatever kind, and have it handled."""
    if channel == "app.Shout":
        for number, one in enumerate(moods, 1):
            hear(delivery, channel, f'{{"number": {number}, "mood": "{one}"}}')
    else:
        jobs(*moods, channel=delivery.channels[channel])
        for _ in range(3):
            drain(delivery, delivery.channels[channel])
            hasten()


@pytest.mark.parametrize("name", ["search_path", "role", "default_transaction_read_only"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channel", ["app.Job", "tests.LoneJob", "app.Shout"])
def test_settings_are_restored_however_they_were_set(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    seen: Seen,
    name: str,
    way: str,
    channel: str,
) -> None:
    """F41: in each kind of message, in a callback, and where a rollback does not undo it."""
    mood(monkeypatch, *(partial(step, SETTINGS[name]) for step in WAYS[way]))
    handle(delivery, channel, "good", "leave", "look", "good")
    assert len(seen) >= 2
    assert all(one == seen[0] for one in seen)
    assert settings() == seen[0]


def test_a_callback_does_not_see_settings_of_another_callback(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    """F41: they are of different messages."""
    mood(monkeypatch, lambda: transaction.on_commit(partial(execute, SETTINGS["search_path"])))
    monkeypatch.setitem(listeners.MOODS, "look", lambda: transaction.on_commit(seen))
    jobs("leave", "look")
    drain(delivery)
    assert seen == [seen[0]] * 2


@pytest.mark.parametrize("channel", ["app.Job", "tests.LoneJob", "app.Shout"])
def test_a_callback_does_not_see_settings_of_its_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, seen: Seen, channel: str
) -> None:
    """F41: that of an ephemeral message wrote for another tenant, that of a durable one did not."""
    step = partial(execute, SETTINGS["search_path"])
    mood(monkeypatch, step, lambda: transaction.on_commit(seen))
    handle(delivery, channel, "leave")
    assert seen == [seen[0]] * 2


@pytest.mark.parametrize(
    "path",
    ['public, "odd, ""name"', '"$user", Public,"UPPER"', "public, it's\\\\", "", '""'],
)
def test_settings_made_on_connection_created_are_kept(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """F41: RESET would not know of it."""

    def set_up(connection: Any, **named: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, false)", [path])
            cursor.execute("SET lock_timeout = '77s'")

    def look() -> None:
        (existing,) = sql("SELECT current_schemas(false)::text")
        seen.append((existing, sql("SHOW lock_timeout")))

    def leave() -> None:
        look()
        execute("SET search_path = tenant")
        execute("SET lock_timeout = 0")

    seen: list[Any] = []
    mood(monkeypatch, leave)
    monkeypatch.setattr(listeners, "SILENT", ("leave", "look"))
    monkeypatch.setitem(listeners.MOODS, "look", look)
    with stranger() as other:
        other.execute('CREATE SCHEMA "odd, ""name"; CREATE SCHEMA "UPPER"; CREATE SCHEMA "it\'s\\"')
        connection_created.connect(set_up)
        connection.close()
        try:
            with delivery.session.isolation() as isolation:
                for step in (leave, look, look):
                    assert isolation.run(step, lambda callback: callback) is None  # type: ignore[arg-type, return-value]
        finally:
            connection_created.disconnect(set_up)
            connection.close()
            other.execute('DROP SCHEMA "odd, ""name"; DROP SCHEMA "UPPER"; DROP SCHEMA "it\'s\\"')
    assert seen == [seen[0]] * 3
    assert seen[0][1] == [("77s",)]


def test_settings_of_a_message_received_receiver_last_for_its_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    """F41: message_received may choose a tenant; that lasts as long as the message."""

    def choose(notification: Notification, **named: Any) -> None:
        if choices and next(choices):
            execute("SET search_path = tenant, public")

    choices = iter([True, True, False, True, False])
    signals.message_received.connect(choose)
    try:
        jobs("look", "quiet", "look", "bad", "look")
        drain(delivery)
    finally:
        signals.message_received.disconnect(choose)
    paths = [one["search_path"] for one in seen]
    assert paths == [paths[0], "tenant, public", paths[0], paths[0]]
    assert [data["number"] for data in calls("do_job")] == [3, 5]
    with stranger() as other:
        other.execute("SELECT data->>'number' FROM tenant.app_entry")
        assert other.fetchall() == [("1",)]
    assert sorted(stored()) == [4]


def test_settings_of_an_outcome_receiver_are_restored(delivery: Delivery, seen: Seen) -> None:
    """F41: it runs between two batches."""

    def leave(**named: Any) -> None:
        execute(SETTINGS["search_path"])

    signals.message_succeeded.connect(leave)
    try:
        jobs("good")
        drain(delivery)
        hear(delivery, "app.Shout", '{"number": 1}')
    finally:
        signals.message_succeeded.disconnect(leave)
    assert settings() == seen[0]


LISTENERS = {"app.Job": "do_job", "tests.LoneJob": "do_lone_job", "app.Shout": "hear"}


def choose_rows() -> None:
    """Have the driver's connection give dicts from now on."""
    raw = connection.connection
    if hasattr(raw, "row_factory"):
        raw.row_factory = import_string("psycopg.rows.dict_row")
    else:
        raw.cursor_factory = import_string("psycopg2.extras.RealDictCursor")


@pytest.mark.parametrize("channel", ["app.Job", "tests.LoneJob", "app.Shout"])
@pytest.mark.parametrize("steps", [["now"], ["now", "fail"], ["in a callback"]])
def test_a_row_factory_set_by_a_message_is_restored(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, channel: str, steps: list[str]
) -> None:
    """F41: the driver's connection has settings, too; and its cursors show that it is used."""
    how: dict[str, Callable[[], object]] = {
        "now": choose_rows,
        "fail": lambda: listeners.fail("after it has chosen"),
        "in a callback": lambda: transaction.on_commit(choose_rows),
    }
    mood(monkeypatch, *(how[step] for step in steps))
    handle(delivery, channel, "leave", "bad", "good")
    assert sql("SELECT 1") == [(1,)]
    assert numbers(LISTENERS[channel]) == ([3] if "fail" in steps else [1, 3])


def test_a_read_only_message_does_not_make_the_next_read_only(delivery: Delivery) -> None:
    """F41: SET TRANSACTION in a savepoint ends with it."""
    listeners.MOODS["read only"] = lambda: execute("SET TRANSACTION READ ONLY")
    try:
        jobs("good", "read only", "bad", "good")
        drain(delivery)
    finally:
        del listeners.MOODS["read only"]
    assert numbers("do_job") == [1, 2, 4]
    assert sorted(stored()) == [3]


@pytest.mark.parametrize("mood_of_tenant", ["leave", "leave and fail"])
def test_a_tenant_set_by_a_message_is_restored(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, mood_of_tenant: str
) -> None:
    """F41: django-tenants keeps in Python whose schema it is in, and sets it for each cursor."""
    wrapper: Any = connections["default"]
    monkeypatch.setattr(wrapper, "tenant", "ours", raising=False)
    monkeypatch.setattr(
        wrapper, "set_tenant", lambda tenant: setattr(wrapper, "tenant", tenant), raising=False
    )
    seen: list[str] = []

    def choose() -> None:
        wrapper.set_tenant("theirs")
        if mood_of_tenant == "leave and fail":
            listeners.fail("after having chosen")

    monkeypatch.setattr(listeners, "SILENT", ("leave", "look"))
    monkeypatch.setitem(listeners.MOODS, "leave", choose)
    monkeypatch.setitem(listeners.MOODS, "look", lambda: seen.append(wrapper.tenant))
    jobs("leave", "look")
    drain(delivery)
    assert seen == ["ours"]
    hear(delivery, "app.Shout", '{"number": 1, "mood": "leave"}')
    assert wrapper.tenant == "ours"


# --- What takes a new connection to be undone

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


# --- Constraints


@pytest.fixture
def once(transactional_db: None) -> Iterator[Callable[[], None]]:
    """A table whose UniqueConstraint is Deferrable.IMMEDIATE; return what creates or ignores."""
    sql('CREATE TABLE once (number integer, CONSTRAINT "odd ""name" UNIQUE (number) DEFERRABLE)')

    def create_or_ignore() -> None:
        try:
            with transaction.atomic():
                execute("INSERT INTO once VALUES (1)")
        except IntegrityError:
            called.append(-1)

    yield create_or_ignore
    sql("DROP TABLE IF EXISTS once")


def test_constraints_have_their_default_mode_in_each_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, once: Callable[[], None]
) -> None:
    """F16: what is immediate of itself is so for each message, and not first of all at its end."""
    mood(monkeypatch, once)
    jobs(*["leave"] * 15)
    drain(delivery)
    assert not stored()
    assert called.count(-1) == 14
    assert sql("SELECT * FROM once") == [(1,)]


@pytest.mark.parametrize("what", ["ALL DEFERRED", "ALL IMMEDIATE", '"odd ""name" DEFERRED'])
def test_set_constraints_lasts_until_the_end_of_the_message(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, once: Callable[[], None], what: str
) -> None:
    """F16: SET CONSTRAINTS lasts until the message's end."""
    noticed: list[bool] = []

    def twice_and_once_again() -> None:
        execute(f"SET CONSTRAINTS {what}")
        try:
            with transaction.atomic():
                execute("INSERT INTO once VALUES (1), (1)")
                noticed.append(False)
                execute("DELETE FROM once")
        except IntegrityError:
            noticed.append(True)

    def dangle_for_a_moment() -> None:
        Post.objects.create(author_id=7, title="", content="")
        Author.objects.create(id=7, name="")
        Author.objects.get(id=7).delete()

    mood(monkeypatch, twice_and_once_again)
    monkeypatch.setitem(listeners.MOODS, "once", once)
    monkeypatch.setitem(listeners.MOODS, "dangle", dangle_for_a_moment)
    jobs("leave", "once", "once", "dangle", "leave", "once", "dangle")
    drain(delivery)
    assert noticed == [what == "ALL IMMEDIATE"] * 2
    assert called.count(-1) == (2 if what == "ALL IMMEDIATE" else 1)
    assert not Notification.from_channel(Job).exists()


def test_new_constraints_are_known_within_a_minute(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F16: as migrations run beside workers. One that is gone is not missed."""
    drain(delivery)
    sql("CREATE TABLE once (number integer, CONSTRAINT brief UNIQUE (number) DEFERRABLE)")
    try:
        monkeypatch.setattr(baseline.time, "monotonic", lambda: 2.0**40)
        drain(delivery)
        noticed: list[bool] = []

        def break_it() -> None:
            try:
                with transaction.atomic():
                    execute("INSERT INTO once VALUES (1), (1)")
                    noticed.append(False)
            except IntegrityError:
                noticed.append(True)

        mood(monkeypatch, break_it)
        jobs("leave", "leave")
        drain(delivery)
        assert noticed == [True, True]
    finally:
        sql("DROP TABLE once")
    jobs("good", "dangling", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 1, 3]
    assert sorted(stored()) == [2]


def test_context_and_ignore_settings_are_restored_for_each_message(delivery: Delivery) -> None:
    """F41: the settings of ours that triggers heed are as they were for each message."""

    def write() -> None:
        execute("SET pgpubsub.ignore = 'true'")
        Item.objects.create(name="unheard")

    listeners.MOODS["write"] = write
    listeners.MOODS["write aloud"] = lambda: Item.objects.create(name="heard")
    try:
        jobs("write", "write aloud")
        drain(delivery)
    finally:
        del listeners.MOODS["write"], listeners.MOODS["write aloud"]
    waiting = Notification.objects.filter(channel=ItemChannel.postgres_name())
    assert [one.payload["new"]["name"] for one in waiting] == ["heard"]


def test_settings_are_restored_with_batch_size_1(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    """F41."""
    mood(monkeypatch, partial(execute, SETTINGS["search_path"]))
    jobs("leave", "look", channel=LoneJob)
    notify(LoneJob(number=3))
    drain(delivery, LoneJob)
    assert seen == [seen[0]] * 2
