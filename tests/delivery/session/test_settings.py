"""The settings of the session are the worker's own again, whatever a message has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.utils.module_loading import import_string

from pgpubsub_sql import notify, signals
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import ItemChannel
from tests.app.listeners import called, execute
from tests.app.models import Item
from tests.delivery.channels import LoneJob
from tests.delivery.sending import drain, hasten, jobs
from tests.delivery.session.support import SETTINGS, Seen, mood, settings
from tests.ledger import calls, numbers, sql, stored, stranger
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


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
