"""notify() and anotify(), as a LISTEN connection hears them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction
from django.db.utils import ConnectionDoesNotExist
from django.utils import timezone

from example.blog.channels import AuthorChannel, PostReads
from pgpubsub_sql import Channel, Notification, anotify, notification_context, notify
from pgpubsub_sql.channels import find_channel
from pgpubsub_sql.errors import ChannelNotFound, PayloadError
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import Job, Shout
from tests.registries import Ear, blank, undone  # noqa: F401 - a fixture

TODAY = datetime.date(2026, 1, 31)
HOSTILE = [
    "O'Hara",
    '"; DROP TABLE blog_post; --',
    "'; DROP TABLE blog_post; --",
    "\\'; SELECT 1; --",
    "100 % %s %(channel)s %%",
    "$pgpubsub$ $1 $$",
    "back\\slash \\u0041 \n\t",
    "名前 🎉 äöü",
]


def execute(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def stored() -> list[tuple[str, Any]]:
    return list(Notification.objects.values_list("channel", "payload"))


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return *message* without the keys that are ours."""
    return {key: value for key, value in message.items() if not key.startswith("$")}


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expect PostgreSQL to refuse, with these words in its message, and go on after it."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        yield
    for word in words:
        assert word in str(caught.value)


# Both forms, every reference.


@pytest.mark.parametrize(
    "reference", [PostReads, "example.blog.channels.PostReads", "blog.PostReads"]
)
def test_fields_reach_whoever_listens(reference: Any, transactional_db: None) -> None:
    with Ear("blog.PostReads") as ear:
        assert notify(reference, model_id=1, date=TODAY) is None
        (message,) = ear.messages()
    assert plain(message) == {"model_id": 1, "date": "2026-01-31", "source": None}
    assert set(message) == {"model_id", "date", "source", "$id", "$schema", "$sig"}
    assert message["$schema"] == "public"


def test_an_instance_is_sent(transactional_db: None) -> None:
    with Ear("blog.PostReads") as ear:
        notify(PostReads(1, TODAY, "a feed"), using="default")
        (message,) = ear.messages()
    assert plain(message) == {"model_id": 1, "date": "2026-01-31", "source": "a feed"}


def test_a_durable_message_is_stored_and_notifies_without_payload(transactional_db: None) -> None:
    """P3: the peer stores under a name that nobody looks for."""
    with Ear("app.Job") as ear:
        notify(Job, number=1)
        assert ear.notifies() == [Notify("app.Job", "")]
    (notification,) = Notification.from_channel(Job).ready()
    assert notification.payload == {"number": 1, "mood": "good"}
    assert notification.channel == Job.postgres_name()
    assert find_channel(notification.channel) is Job
    assert (notification.attempts, notification.last_error, notification.key) == (0, "", None)


@pytest.mark.parametrize("name", ["n" * 80, "\"odd\" 'name' %s ; \\ äöü $$"])
def test_a_durable_channel_has_one_name_everywhere(
    name: str,
    transactional_db: None,
    blank: None,  # noqa: F811
) -> None:
    """P2 and P3: long and odd names too."""

    @dataclass
    class Odd(Channel):
        number: int
        channel_name = name
        lock_notifications = True

    with Ear(Odd.postgres_name()) as ear:
        notify(name, number=1)
        assert ear.notifies() == [Notify(Odd.postgres_name(), "")]
    assert Notification.from_channel(Odd).count() == 1


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("is_durable", [True, False])
def test_hostile_text_stays_in_the_payload(
    said: str,
    is_durable: bool,
    transactional_db: None,
    blank: None,  # noqa: F811
) -> None:
    """P2: in the peer an apostrophe breaks it, and a payload can drop a table."""

    @dataclass
    class Text(Channel):
        content: str
        channel_name = said
        lock_notifications = is_durable

    with Ear(said) as ear:
        notify(Text(said))
        (one,) = ear.notifies()
    payload = stored()[0][1] if is_durable else json.loads(one.payload)
    assert plain(payload) == {"content": said}
    execute("SELECT count(*) FROM blog_post")


def test_equal_messages_are_not_merged(transactional_db: None) -> None:
    """P7: PostgreSQL drops identical NOTIFYs of one transaction."""
    with Ear("app.Shout", "app.Job") as ear:
        with transaction.atomic():
            for _ in range(5):
                notify(Shout, number=1)
                notify(Job, number=1)
        notifies = ear.notifies()
    shouts = [json.loads(one.payload) for one in notifies if one.channel == "app.Shout"]
    assert [message["number"] for message in shouts] == [1] * 5
    assert len({message["$id"] for message in shouts}) == 5
    assert Notification.from_channel(Job).count() == 5
    assert len(notifies) == 6  # one ring is enough to say "look"


# In the caller's transaction.


def test_nothing_is_sent_before_commit_or_after_rollback(transactional_db: None) -> None:
    with Ear("app.Shout", "app.Job") as ear:
        with undone():
            notify(Shout, number=1)
            notify(Job, number=1)
        with transaction.atomic():
            notify(Shout, number=2)
            with undone():
                notify(Shout, number=3)
                notify(Job, number=3)
        assert [message["number"] for message in ear.messages()] == [2]
    assert stored() == []


def test_a_read_only_transaction_sends_only_short_ephemeral_messages(
    transactional_db: None,
) -> None:
    with Ear("app.Shout") as ear:
        with transaction.atomic():
            execute("SET TRANSACTION READ ONLY")
            notify(Shout, number=1)
            with refused("read-only transaction"):
                notify(Shout, number=2, mood="x" * 8000)
            with refused("read-only transaction"):
                notify(Job, number=3)
        assert [message["number"] for message in ear.messages()] == [1]


# Options.


def database_clock() -> datetime.datetime:
    ((now,),) = execute("SELECT clock_timestamp()")
    return now


@pytest.mark.django_db
def test_a_message_is_available_at_once_by_the_databases_clock() -> None:
    """Not by now(), which is when the transaction began."""
    before = database_clock()
    notify(Job(1))
    notification = Notification.objects.get()
    assert before < notification.created_at < database_clock()
    assert before < notification.available_at < database_clock()
    assert notification.expires_at is None


@pytest.mark.django_db
def test_delay_counts_from_now() -> None:
    before = database_clock()
    notify(Job(1), delay=datetime.timedelta(days=40, seconds=1.5))
    (notification,) = Notification.objects.waiting()
    assert notification.available_at - before >= datetime.timedelta(days=40, seconds=1.5)
    assert notification.available_at - database_clock() <= datetime.timedelta(days=40, seconds=1.5)
    assert not Notification.objects.ready().exists()


@pytest.mark.django_db
def test_at_and_expires_are_kept_to_the_microsecond() -> None:
    cairo = datetime.timezone(datetime.timedelta(hours=2))
    at = datetime.datetime(2090, 1, 2, 3, 4, 5, 678901, tzinfo=cairo)
    expires = datetime.datetime(2091, 1, 1, tzinfo=datetime.UTC)
    notify(Job(1), at=at, expires=expires)
    notification = Notification.objects.get()
    assert (notification.available_at, notification.expires_at) == (at, expires)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"delay": datetime.timedelta(1), "at": timezone.now()}, "either delay or at"),
        ({"delay": 5}, "delay must be a timedelta, not 5"),
        ({"at": "tomorrow"}, "at must be a datetime, not 'tomorrow'"),
        ({"at": datetime.datetime(2030, 1, 1)}, "at has no time zone.*make_aware"),
        ({"expires": datetime.datetime(2030, 1, 1)}, "expires has no time zone"),
        ({"expires": TODAY}, "expires must be a datetime"),
    ],
)
@pytest.mark.django_db
def test_invalid_options_are_refused(options: Any, complaint: str) -> None:
    with pytest.raises(PayloadError, match=f"app.Job: .*{complaint}"):
        notify(Job(1), **options)
    assert stored() == []  # and the transaction goes on


@pytest.mark.django_db
def test_naive_times_are_in_the_connections_zone_without_use_tz(
    settings: Any,
) -> None:
    settings.USE_TZ = False
    notify(Job(1), at=datetime.datetime(2030, 1, 1))
    assert execute("SELECT available_at = '2030-01-01' FROM pgpubsub_sql_notification") == [(True,)]


@pytest.mark.parametrize("option", ["delay", "at", "expires"])
@pytest.mark.django_db
def test_an_ephemeral_message_takes_no_times(option: str) -> None:
    value = datetime.timedelta(1) if option == "delay" else timezone.now()
    with pytest.raises(PayloadError, match=r"app\.Shout is ephemeral.*lock_notifications = True"):
        notify(Shout(1), **{option: value})  # type: ignore[call-overload]


@pytest.mark.django_db
def test_only_an_instance_takes_options() -> None:
    """So that no field's name can clash."""
    with pytest.raises(TypeError, match=r"of a Job takes the options .*, not 'number'"):
        notify(Job(1), number=2)  # type: ignore[call-overload]
    with pytest.raises(ConnectionDoesNotExist):
        notify(Job(1), using="elsewhere")


@pytest.mark.parametrize("option", ["using", "delay", "at", "expires"])
@pytest.mark.parametrize("send", [notify, async_to_sync(anotify)])
def test_an_option_among_fields_is_refused_with_the_right_form(send: Any, option: str) -> None:
    """F60: "has no field 'delay'" did not say where a delay goes."""
    words = f"app.Job has no field '{option}'. If you mean the option, send an instance: "
    for reference in (Job, "app.Job"):
        with pytest.raises(PayloadError) as caught:
            send(reference, number=1, **{option: None})
        assert str(caught.value) == f"{words}notify(Job(number=…), {option}=…)"


@pytest.mark.django_db
def test_a_field_may_have_the_name_of_an_option(blank: None) -> None:  # noqa: F811
    """F60: what such a channel is sent is its field."""

    @dataclass
    class Train(Channel):
        delay: int
        channel_name = "train"
        lock_notifications = True

    notify(Train, delay=5)
    assert stored() == [("train", {"delay": 5})]
    with pytest.raises(PayloadError, match=r"send an instance: notify\(Train\(delay=…\), at=…\)"):
        notify(Train, delay=5, at=None)


@pytest.mark.django_db
def test_messages_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(PayloadError, match=r"blog\.PostReads: missing 'date'"):
        notify(PostReads, model_id=1)
    with pytest.raises(PayloadError, match=r"blog\.PostReads: field 'model_id'"):
        notify(PostReads(model_id="one", date=TODAY))  # type: ignore[arg-type]
    with pytest.raises(ChannelNotFound, match=r"blog\.PostRead'.*Did you mean"):
        notify("blog.PostRead")
    for channel in (AuthorChannel, AuthorChannel(), "blog.AuthorChannel"):
        with pytest.raises(PayloadError, match="AuthorChannel is not a subclass of Channel"):
            notify(channel)  # type: ignore[call-overload]
    with pytest.raises(ChannelNotFound, match="1 is not a channel"):
        notify(1)  # type: ignore[call-overload]


# What does not fit into a NOTIFY.


def message_of(size: int, fill: str = "x") -> dict[str, Any]:
    """Return a message that is *size* bytes long once our keys are in it."""
    ((empty,),) = execute(
        "SELECT octet_length((jsonb_build_object('text', '', '$id', gen_random_uuid(), "
        "'$schema', 'public', '$sig', repeat('x', 64)))::text)"
    )
    count, rest = divmod(size - empty, len(fill.encode()))
    return {"text": fill * count + "x" * rest}


@pytest.mark.parametrize("fill", ["x", "ä", "🎉"])
@pytest.mark.parametrize(("size", "is_stored"), [(7998, False), (7999, False), (8000, True)])
def test_messages_too_long_for_notify_are_stored(
    fill: str, size: int, is_stored: bool, transactional_db: None
) -> None:
    """P13: bytes count, not characters; a write is never refused because of its size."""
    sent = message_of(size, fill)
    with Ear("a") as ear:
        execute("SELECT pgpubsub_send_v1('a', %s::jsonb)", json.dumps(sent))
        (one,) = ear.notifies()
    message = json.loads(one.payload)
    if is_stored:
        long_payload = LongPayload.objects.get(id=message["$ref"])
        assert set(message) == {"$id", "$schema", "$ref", "$sig"}
        assert message["$schema"] == "public"
        assert long_payload.payload == sent
        remaining = long_payload.expires_at - database_clock()
        assert datetime.timedelta(minutes=59) < remaining < datetime.timedelta(hours=1)
    else:
        assert len(one.payload.encode()) == size
        assert plain(message) == sent
        assert not LongPayload.objects.exists()


def test_long_messages_are_sent_by_notify(transactional_db: None) -> None:
    with Ear("app.Shout") as ear:
        with notification_context({"tenant": 7}):
            notify(Shout, number=1, mood="ä" * 500_000)
        (message,) = ear.messages()
    payload = LongPayload.objects.get(id=message["$ref"]).payload
    assert payload["mood"] == "ä" * 500_000
    assert payload["$context"] == {"tenant": 7}


# Context.


def test_the_context_travels_with_every_kind_of_message(transactional_db: None) -> None:
    with Ear("app.Shout") as ear:
        with notification_context({"tenant": 7}):
            notify(Shout, number=1)
            notify(Job, number=1)
            execute("SELECT pgpubsub_notify('by.sql', '{}')")
            execute("""SELECT pgpubsub_notify('by.sql', '{"$context": "mine"}')""")
        notify(Shout, number=2)
        notify(Job, number=2)
        assert [m.get("$context") for m in ear.messages()] == [{"tenant": 7}, None]
    contexts = [payload.get("$context") for _, payload in stored()]
    assert contexts == [{"tenant": 7}, {"tenant": 7}, "mine", None]


@pytest.mark.usefixtures("transactional_db", "blank")
def test_post_init_runs_where_fields_are_given() -> None:
    """M8: as it does where an instance is."""

    @dataclass
    class Shouting(Channel):
        text: str
        lock_notifications = True

        def __post_init__(self) -> None:
            self.text = self.text.upper()

    notify(Shouting, text="a")
    notify(Shouting(text="b"))
    assert [payload["text"] for _, payload in stored()] == ["A", "B"]


@pytest.mark.parametrize(("field", "value"), [("number", "5"), ("number", True), ("mood", 5)])
def test_what_the_predecessor_converted_is_refused_by_its_field(field: str, value: Any) -> None:
    """M11: it raises where the message is sent, and says which field."""
    with pytest.raises(PayloadError, match=f"app.Job: field '{field}'"):
        notify(Job, **{"number": 1, field: value})
