"""Subscriptions: each receives every message of its channel by itself."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

import pgpubsub_sql
from pgpubsub_sql import Channel, TriggerChannel, notify, notify_many
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.commands.listen import Command
from pgpubsub_sql.migrations_ops import maintenance
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.declared_triggers import specify
from pgpubsub_sql.migrations_ops.shared_faults import find_faults, repair_faults
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.models import Notification
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.sql.trigger import Trigger
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.models import Item
from tests.ledger import sql, stranger
from tests.registries import blank

__all__ = ("blank",)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("blank")]

NAME = "sale"
Heard = list[tuple[str, int]]
Logs = pytest.LogCaptureFixture


def register(*names: str, channel: str = NAME) -> None:
    for name in names:
        sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES (%s, %s)", channel, name)


def registered(channel: str = NAME) -> list[str]:
    rows = sql("SELECT name FROM pgpubsub_sql_subscription WHERE channel = %s ORDER BY 1", channel)
    return [name for (name,) in rows]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """No flush empties the table."""
    before = sql("SELECT channel, name FROM pgpubsub_sql_subscription")
    yield
    sql("DELETE FROM pgpubsub_sql_subscription")
    for channel, name in before:
        register(name, channel=channel)


@pytest.fixture
def sale() -> type[Channel]:
    fields = {"__annotations__": {"number": int, "key": str | None}, "key": None}
    options = {
        "channel_name": NAME,
        "lock_notifications": True,
        "ordering_key": "key",
        "retry": pgpubsub_sql.Retry(max_attempts=2, delay=3600, factor=1, jitter=0),
    }
    return dataclass(type("Sale", (Channel,), fields | options))


@pytest.fixture
def heard(sale: type[Channel]) -> Heard:
    """Whom each listener was called with; that of "mail" fails for odd numbers."""
    found: Heard = []

    def hear(subscription: str, number: int) -> None:
        found.append((subscription, number))
        if subscription == "mail" and number % 2:
            raise OSError("the mail server is down")

    for name in ("", "mail", "search"):
        pgpubsub_sql.listener(sale, subscription=name)(partial(hear, name))
    register("", "mail", "search")
    return found


@pytest.fixture
def delivery(sale: type[Channel], heard: Heard) -> Delivery:
    return Delivery([sale], using="default", schema="public")


def drain(delivery: Delivery, *names: str) -> None:
    for name in names:
        while delivery.handle_stored(NAME, name):
            pass


def copies() -> list[tuple[str, Any]]:
    """Return subscription and number of what is stored, message by message."""
    return sql(
        "SELECT subscription, coalesce(payload->'new'->>'name', payload->>'number')"
        " FROM pgpubsub_sql_notification WHERE channel = %s"
        " ORDER BY coalesce(message, id), subscription",
        NAME,
    )


# --- What is stored


def by_notify(sale: type[Channel]) -> None:
    notify(sale, number=1)
    notify(sale(number=2), delay=datetime.timedelta(hours=1))


def by_notify_many(sale: type[Channel]) -> None:
    notify_many([sale(number=1), sale(number=2, key="a")])


def by_sql(sale: type[Channel]) -> None:
    for number in (1, 2):
        ((first,),) = sql(f"SELECT pgpubsub_notify('{NAME}', '{{\"number\": {number}}}')")
        assert (
            first == min(Notification.objects.filter(payload__number=number).values_list("pk"))[0]
        )


def by_raw_notify(sale: type[Channel]) -> None:
    Delivery([sale], using="default").store(NAME, ['{"number": 1}', '{"number": 2}'])


def by_trigger(sale: type[Channel]) -> None:
    trigger = Trigger(channel=NAME, model="app.item", after=("insert",), durable=True)
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    for statement in create(trigger, find_target(connection, trigger, "app_item", **names)):
        sql(statement)
    Item.objects.bulk_create([Item(name="1"), Item(name="2")])
    sql(f'DROP FUNCTION "{trigger.function}" CASCADE')


SENDERS = [by_notify, by_notify_many, by_sql, by_raw_notify, by_trigger]


@pytest.mark.parametrize("send", SENDERS)
def test_each_message_is_stored_for_each_subscription(send: Any, sale: type[Channel]) -> None:
    register("", "mail", "search")
    send(sale)
    rows = Notification.objects.filter(channel=NAME)
    assert copies() == [(name, str(n)) for n in (1, 2) for name in ("", "mail", "search")]
    assert len({row.message for row in rows}) == 2
    assert all(row.message < row.pk for row in rows)
    assert len({str(row.payload) for row in rows}) == 2


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize("name", ["", "mail"])
def test_one_subscription_gets_one(send: Any, name: str, sale: type[Channel]) -> None:
    register(name)
    send(sale)
    assert copies() == [(name, "1"), (name, "2")]


@pytest.mark.parametrize("send", SENDERS)
def test_without_a_registration_it_is_the_one_without_a_name(
    send: Any, sale: type[Channel]
) -> None:
    register("mail", channel="another")
    send(sale)
    assert copies() == [("", "1"), ("", "2")]


def test_a_statement_stores_for_what_was_registered_when_it_began(sale: type[Channel]) -> None:
    """Not for what its transaction knew, nor for what its function saw before."""
    register("")
    with stranger() as writer:
        writer.execute("BEGIN; SELECT count(*) FROM pgpubsub_sql_subscription")
        register("mail")
        writer.execute(f"SELECT pgpubsub_notify('{NAME}', '{{\"number\": 1}}'); COMMIT")
    assert copies() == [("", "1"), ("mail", "1")]


def test_many_messages_of_several_channels_keep_their_order(sale: type[Channel]) -> None:
    other = type("Other", (Channel,), {"channel_name": "other", "lock_notifications": True})
    register("mail", "search")
    numbers = list(range(300))
    notify_many([sale(number=n) if n % 3 else other() for n in numbers])
    found = sql(
        "SELECT payload->>'number' FROM pgpubsub_sql_notification"
        " WHERE subscription = 'search' ORDER BY id"
    )
    assert [int(number) for (number,) in found] == [n for n in numbers if n % 3]
    assert Notification.objects.filter(channel="other", subscription="").count() == 100


# --- What is handled


def test_each_handles_fails_and_parks_by_itself(delivery: Delivery, heard: Heard) -> None:
    """The retries of one do not call the others again."""
    notify_many([delivery.channels[NAME](number=n) for n in (1, 2)])
    drain(delivery, "", "search", "mail")
    assert [one for one in heard if one[0] != "mail"] == [
        *[("", 1), ("", 2)],
        *[("search", 1), ("search", 2)],
    ]
    row = Notification.objects.get()
    assert (row.subscription, row.attempts, row.reason) == ("mail", 1, "OSError")
    sql("UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp()")
    message = row.message
    drain(delivery, "", "search", "mail")
    row = Notification.objects.parked().get()
    assert (row.subscription, row.attempts, row.message) == ("mail", 2, message)
    assert [one for one in heard if one[0] == "mail"] == [("mail", 1), ("mail", 2), ("mail", 1)]
    row.payload["number"] = 4
    row.save()
    Notification.objects.parked().replay()
    drain(delivery, "", "search", "mail")
    assert heard[-1] == ("mail", 4)
    assert not Notification.objects.exists()


def test_a_key_is_locked_for_one_subscription_only(delivery: Delivery, heard: Heard) -> None:
    """Each has its own order of a key, whoever is ahead."""
    sale = delivery.channels[NAME]
    notify_many([sale(number=n, key="a") for n in (2, 4)])
    with stranger() as other:
        other.execute("BEGIN")
        lane = {**Lane(NAME, "mail")._asdict(), "after": "", "limit": 10, "steps": 10}
        other.execute(query("lock_keys"), lane)
        drain(delivery, "search", "mail")
        assert heard == [("search", 2), ("search", 4)]
        other.execute("ROLLBACK")
    drain(delivery, "mail")
    assert heard[2:] == [("mail", 2), ("mail", 4)]


def test_copies_that_come_later_keep_the_order_of_their_messages(
    delivery: Delivery, heard: Heard
) -> None:
    """What fills a subscription has younger ids than what it was sent meanwhile."""
    sale = delivery.channels[NAME]
    for number in (2, 4):
        notify(sale, number=number, key="a")
    sql("DELETE FROM pgpubsub_sql_notification WHERE subscription <> 'search'")
    sql(
        "WITH gone AS (DELETE FROM pgpubsub_sql_notification WHERE payload->>'number' = '2'"
        " RETURNING channel, subscription, message, payload, key)"
        " INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload, key)"
        " SELECT * FROM gone"
    )
    drain(delivery, "search")
    assert heard == [("search", 2), ("search", 4)]


def test_what_was_put_back_is_still_of_its_message(delivery: Delivery, heard: Heard) -> None:
    notify(delivery.channels[NAME], number=1)
    before = set(Notification.objects.values_list("pk", "subscription", "message"))
    drain(delivery, "mail")
    assert set(Notification.objects.values_list("pk", "subscription", "message")) == before


def test_an_event_that_another_subscription_wants_is_no_mistake(caplog: Logs) -> None:
    """F1: each subscription receives every event of the channel."""
    rows: Any = type("Rows", (TriggerChannel,), {"channel_name": NAME, "lock_notifications": True})
    rows.model = "app.Item"
    told: list[str] = []
    pgpubsub_sql.post_insert_listener(rows, subscription="mail")(lambda new: told.append("mail"))
    pgpubsub_sql.post_delete_listener(rows, subscription="search")(lambda old: told.append("gone"))
    register("mail", "search")
    specified = specify(rows)
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    for statement in create(specified, find_target(connection, specified, "app_item", **names)):
        sql(statement)
    Item.objects.create(name="one").delete()
    sql(f'DROP FUNCTION "{specified.function}" CASCADE')
    drain(Delivery([rows], using="default"), "mail", "search")
    assert told == ["mail", "gone"]
    assert not caplog.messages


def test_one_function_may_be_in_several_subscriptions(sale: type[Channel]) -> None:
    heard: list[int] = []

    def hear(number: int) -> None:
        heard.append(number)

    for name in ("mail", "search", "mail"):
        pgpubsub_sql.listener(sale, subscription=name)(hear)
    register("mail", "search")
    notify(sale, number=1)
    drain(Delivery([sale], using="default"), "mail", "search")
    assert heard == [1, 1]


def test_a_worker_may_handle_some_only(sale: type[Channel], heard: Heard) -> None:
    delivery = Delivery([sale], using="default", lanes=[Lane(NAME, "search")])
    notify(sale, number=2)
    assert delivery.look({Lane(NAME, "search"): True}) == {
        Lane(NAME, "search"): pytest.approx(0, abs=60)
    }
    assert delivery.count_ready() == 1
    assert delivery.next_ready().keys() == {Lane(NAME, "search")}
    drain(delivery, "search")
    assert heard == [("search", 2)]
    with pytest.raises(KeyError):
        delivery.handle_stored(NAME, "mail")


# --- What is registered


def test_migrate_registers_what_is_declared(sale: type[Channel], heard: Heard) -> None:
    """Of every durable channel, and takes nothing back."""
    sql("DELETE FROM pgpubsub_sql_subscription")
    register("former")
    pgpubsub_sql.listener(type("Shout", (Channel,), {"channel_name": "shout"}))(lambda: None)
    pgpubsub_sql.listener("nowhere")(lambda: None)
    maintenance.register_subscriptions("default")
    assert registered() == ["", "former", "mail", "search"]
    assert not registered("shout")


def test_flush_empties_nothing(sale: type[Channel]) -> None:
    register("mail")
    call_command("flush", verbosity=0, interactive=False)
    assert registered() == ["mail"]


def test_a_test_with_some_apps_registers_nothing(
    sale: type[Channel], heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of channels depend on the apps that are installed."""
    sql("DELETE FROM pgpubsub_sql_subscription")
    monkeypatch.setattr(maintenance, "is_restricted", lambda: True)
    maintenance.register_subscriptions("default")
    assert not registered()


def test_what_is_not_registered_is_named_and_registered(sale: type[Channel], heard: Heard) -> None:
    sql("DELETE FROM pgpubsub_sql_subscription WHERE channel = %s AND name <> 'search'", NAME)
    faults = find_faults(connection, "public")
    assert [fault.text for fault in faults] == [
        f"Nothing is stored on channel {NAME} for listeners without a subscription, as it is not "
        "registered",
        f"Nothing is stored on channel {NAME} for the subscription 'mail', as it is not registered",
    ]
    repair_faults(connection, "public", faults[:1])
    assert registered() == ["", "mail", "search"]
    assert not find_faults(connection, "public")


def test_nothing_is_missing_where_nothing_is_named(sale: type[Channel]) -> None:
    pgpubsub_sql.listener(sale)(lambda: None)
    assert not registered()
    assert not find_faults(connection, "public")


def test_what_is_no_longer_declared_is_named(sale: type[Channel], heard: Heard) -> None:
    register("former")
    register("mail", channel="of another project")
    assert [one for one in audit(connection).undeclared if one.channel == NAME] == [
        (
            NAME,
            "stores messages for the subscription 'former', which no listener declares",
            f"If it was renamed, run: python manage.py pgpubsub move {NAME} --subscription former "
            f"NEW\nIf it is gone for good, run: python manage.py pgpubsub unsubscribe {NAME} "
            "--subscription former",
        )
    ]
    assert not [one for one in audit(connection).undeclared if one.channel != NAME]


# --- Declarations


@pytest.mark.parametrize("name", ["a b", "a/b", "é", "x" * 64, " ", None, 1])
def test_a_name_that_cannot_be_is_refused(name: Any, sale: type[Channel]) -> None:
    def welcome() -> None: ...

    words = r"The listener .*welcome of Sale cannot have the subscription .*: a name has up to 63"
    with pytest.raises(ValueError, match=words):
        pgpubsub_sql.listener(sale, subscription=name)(welcome)
    assert not registry.listeners()


DECORATORS = [name for name in pgpubsub_sql.__all__ if name.endswith("_listener")]


@pytest.mark.parametrize("name", DECORATORS)
def test_every_decorator_takes_one(name: str) -> None:
    rows: Any = type("Rows", (TriggerChannel,), {"channel_name": NAME})
    events: Any = {"events": ()} if name == "batch_listener" else {}
    getattr(pgpubsub_sql, name)(rows, subscription="mail-2_x.y", **events)(lambda: None)
    (one,) = registry.listeners()
    assert one.subscription == "mail-2_x.y"


@pytest.fixture
def select(sale: type[Channel], heard: Heard) -> Callable[..., list[tuple[str, str]]]:
    pgpubsub_sql.listener(type("Shout", (Channel,), {"channel_name": "shout"}))(lambda: None)

    def selected(*argv: str) -> list[tuple[str, str]]:
        command = Command()
        options = vars(command.create_parser("manage.py", "listen").parse_args(argv))
        return [*map(tuple, command._worker_options(options).lanes)]

    return selected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], [(NAME, ""), (NAME, "mail"), (NAME, "search"), ("shout", "")]),
        (["--subscriptions", "mail"], [(NAME, "mail")]),
        (["--subscriptions", "", "search"], [(NAME, ""), (NAME, "search"), ("shout", "")]),
        (
            ["--exclude-subscriptions", "mail"],
            [(NAME, ""), (NAME, "search"), ("shout", "")],
        ),
        (["--channels", NAME, "--exclude-subscriptions", "", "mail"], [(NAME, "search")]),
    ],
)
def test_listen_selects_subscriptions(select: Any, argv: list[str], expected: Any) -> None:
    assert select(*argv) == expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["--subscriptions", "mial"],
            r"No listener names the subscription 'mial'\. Did you mean 'm",
        ),
        (["--exclude-subscriptions", "x"], r"No listener names the subscription 'x'\.$"),
        (["--channels", "shout", "--subscriptions", "mail"], "There is nothing to listen to"),
    ],
)
def test_listen_explains_mistakes(select: Any, argv: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        select(*argv)
