"""notify_many(), anotify(), and process_stored_notifications()."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.utils import ConnectionDoesNotExist
from django.test.utils import CaptureQueriesContext

from example.blog.channels import AuthorChannel, PostReads
from pgpubsub_sql import (
    Channel,
    Notification,
    TriggerChannel,
    anotify,
    notification_context,
    notify,
    notify_many,
    process_stored_notifications,
)
from pgpubsub_sql.errors import ChannelNotFound, PayloadError
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import ItemChannel, Job, Shout
from tests.ledger import sql
from tests.registries import Ear, blank, undone  # noqa: F401 - a fixture

TODAY = datetime.date(2026, 1, 31)


def stored() -> list[tuple[str, Any]]:
    return list(Notification.objects.values_list("channel", "payload"))


# notify_many.


def test_messages_of_several_channels_take_one_round_trip(transactional_db: None) -> None:
    """P7: equal ones all do; each durable channel is rung once."""
    messages = [Shout(1), Job(1), PostReads(1, TODAY), Job(1), Shout(1), Job(2), Shout(2)]
    with Ear("app.Job", "app.Shout", "blog.PostReads") as ear:
        with CaptureQueriesContext(connection) as queries:
            assert notify_many(message for message in messages) is None
        assert len(queries) == 1
        notifies = ear.notifies()
    assert [one.channel for one in notifies if one.payload] == [
        *("app.Shout", "blog.PostReads", "app.Shout", "app.Shout")
    ]
    heard = [json.loads(one.payload) for one in notifies if one.channel == "app.Shout"]
    assert [message["number"] for message in heard] == [1, 1, 2]
    assert len({message["$id"] for message in heard}) == 3
    assert [one for one in notifies if not one.payload] == [Notify("app.Job", "")]
    assert [payload["number"] for _, payload in stored()] == [1, 1, 2]


RUNG = """
CREATE TABLE rung (channel text);
CREATE OR REPLACE FUNCTION pgpubsub_must_notify(channel text) RETURNS boolean LANGUAGE sql
    AS 'INSERT INTO public.rung VALUES (channel) RETURNING true';
"""


@pytest.mark.django_db
def test_workers_are_notified_once_per_channel() -> None:
    """Not merely because PostgreSQL drops the second of two equal NOTIFYs."""
    sql(RUNG)
    notify_many([*map(Job, range(50)), Shout(1)])
    assert sql("SELECT channel FROM rung") == [("app.Job",)]
    notify_many([Shout(1)])
    assert len(sql("SELECT channel FROM rung")) == 1


@pytest.mark.django_db
def test_each_message_equals_that_of_notify() -> None:
    for message in (Job(1, "O'Hara %s \\ \" $$ 名前 🎉"), Job(2, "x" * 9000)):
        with notification_context({"tenant": 7}):
            notify(message)
            notify_many([message])
            ((_, alone), (_, among)) = stored()
        assert alone == among
        assert among["$context"] == {"tenant": 7}
        Notification.objects.all().delete()
    notify_many([Job(1)])
    (notification,) = Notification.objects.ready()
    assert notification.payload == {"number": 1, "mood": "good"}
    assert (notification.attempts, notification.expires_at, notification.key) == (0, None, None)


def test_long_messages_arrive_whole(transactional_db: None) -> None:
    """P13"""
    with Ear("app.Shout") as ear:
        with notification_context({"tenant": 7}):
            notify_many([Shout(1, "ä" * 9000), Shout(2)])
        long, short = ear.messages()
    payload = LongPayload.objects.get(id=long["$ref"]).payload
    assert (payload["mood"], payload["$context"]) == ("ä" * 9000, {"tenant": 7})
    assert (short["number"], short["$context"]) == (2, {"tenant": 7})


@pytest.mark.django_db
def test_ids_follow_the_order_given() -> None:
    """P16: the peer orders by a time that is equal within a transaction."""
    notify_many(Job(number) for number in range(2000, 0, -1))
    numbers = Notification.objects.order_by("id").values_list("payload__number", flat=True)
    assert list(numbers) == list(range(2000, 0, -1))


def test_no_message_is_sent_if_one_cannot_be(transactional_db: None) -> None:
    with Ear("app.Job", "app.Shout") as ear:
        for wrong, complaint in [
            (Job("one"), r"app\.Job: field 'number'"),  # type: ignore[arg-type]
            (Job(1, "\0"), r"app\.Job: .*NUL"),
            (AuthorChannel(), "AuthorChannel is not a subclass of Channel"),
            (Job, r"takes instances of channels, .*, not <class 'tests\.app\.channels\.Job'>"),
            ("app.Job", "not 'app.Job'"),
        ]:
            with pytest.raises(PayloadError, match=complaint):
                notify_many([Shout(1), Job(1), wrong])  # type: ignore[list-item]
        with undone():
            notify_many([Shout(1), Job(1)])
        assert ear.notifies() == []
    assert stored() == []


def test_a_read_only_transaction_sends_short_ephemeral_messages(transactional_db: None) -> None:
    """As notify() does."""
    with Ear("app.Shout") as ear:
        with transaction.atomic():
            sql("SET TRANSACTION READ ONLY")
            notify_many([Shout(1), Shout(2)])
        assert [message["number"] for message in ear.messages()] == [1, 2]


@pytest.mark.django_db
def test_no_messages_need_no_query() -> None:
    with CaptureQueriesContext(connection) as queries:
        notify_many([])
    assert len(queries) == 0


@pytest.mark.django_db
def test_using_selects_the_database() -> None:
    with pytest.raises(ConnectionDoesNotExist):
        notify_many([Job(1)], using="elsewhere")


# anotify.


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it under no synchronous caller, so that Django has a thread and a connection for it."""

    async def run_and_disconnect() -> None:
        await coroutine
        await sync_to_async(lambda: connection.close())()

    asyncio.run(run_and_disconnect())


def test_anotify_takes_every_form(transactional_db: None) -> None:
    at = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)

    async def send() -> None:
        assert await anotify(PostReads, model_id=1, date=TODAY) is None
        await anotify("blog.PostReads", model_id=2, date=TODAY)
        await anotify(Job(3), at=at, using="default")

    with Ear("blog.PostReads") as ear:
        run(send())
        assert [message["model_id"] for message in ear.messages()] == [1, 2]
    (notification,) = Notification.objects.waiting()
    assert (notification.payload["number"], notification.available_at) == (3, at)


@pytest.mark.django_db
def test_anotify_joins_the_transaction_of_the_calling_thread() -> None:
    """As an async listener is called; its connection is Django's own for this thread."""

    async def send(number: int) -> None:
        await anotify(Job(number))
        assert await Notification.objects.acount() == 1

    with undone():
        async_to_sync(send)(1)
    with transaction.atomic():
        async_to_sync(send)(2)
    assert [payload["number"] for _, payload in stored()] == [2]


@pytest.mark.django_db
def test_anotify_raises_like_notify() -> None:
    send = async_to_sync(anotify)
    with pytest.raises(PayloadError, match="missing 'date'"):
        send(PostReads, model_id=1)
    with pytest.raises(PayloadError, match="give either delay or at"):
        send(Job(1), delay=datetime.timedelta(1), at=datetime.datetime.now(datetime.UTC))


def test_fields_of_anotify_may_have_any_name(
    transactional_db: None,
    blank: None,  # noqa: F811
) -> None:
    names = {"func": str, "thread_sensitive": bool, "executor": str, "self": str}
    channel: Any = dataclasses.make_dataclass(
        "Odd", names.items(), bases=(Channel,), namespace={"__module__": __name__}
    )
    with Ear(channel.postgres_name()) as ear:
        values = {"func": "f", "thread_sensitive": False, "executor": "e", "self": "s"}
        run(anotify(channel, **values))
        (message,) = ear.messages()
    assert values.items() <= message.items()


# process_stored_notifications.


def rung(*arguments: Any) -> list[str]:
    names = [channel.postgres_name() for channel in (Job, Shout, ItemChannel, PostReads)]
    with Ear(*names) as ear:
        assert process_stored_notifications(*arguments) is None
        notifies = ear.notifies()
    assert all(one.payload == "" for one in notifies)
    return [one.channel for one in notifies]


def test_process_stored_notifications_notifies_durable_channels(transactional_db: None) -> None:
    assert rung() == ["app.Job", "app.ItemChannel"]
    assert rung([Job, Shout]) == ["app.Job"]
    assert rung(["app.Job", "tests.app.channels.ItemChannel"]) == ["app.Job", "app.ItemChannel"]
    assert rung([TriggerChannel]) == ["app.ItemChannel"]
    assert rung([]) == []
    with pytest.raises(ChannelNotFound, match=r"Did you mean 'app\.Job'"):
        process_stored_notifications(["app.Jobb"])


def test_process_stored_notifications_waits_for_the_commit(transactional_db: None) -> None:
    with Ear("app.Job") as ear:
        with undone():
            process_stored_notifications()
        assert ear.notifies() == []
        with transaction.atomic():
            process_stored_notifications(using="default")
            assert ear.doorbell.notifies() == []
        assert ear.notifies() == [Notify("app.Job", "")]
    with pytest.raises(ConnectionDoesNotExist):
        process_stored_notifications(using="elsewhere")


@pytest.mark.django_db
def test_process_stored_notifications_leaves_parked_and_waiting_messages() -> None:
    notify(Job(1), delay=datetime.timedelta(days=1))
    notify(Job(2))
    Notification.objects.filter(payload__number=2).update(available_at=None)
    before = list(Notification.objects.values())
    process_stored_notifications()
    assert list(Notification.objects.values()) == before
