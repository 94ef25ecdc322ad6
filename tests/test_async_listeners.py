"""``async def`` listeners, which work in the transaction of their message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

import pgpubsub_sql
from pgpubsub_sql import Channel, Notification, anotify, notify
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.models import Entry
from tests.registries import Ear, Undo, blank  # noqa: F401 - a fixture
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


async def write(text: str) -> None:
    await Entry.objects.acreate(listener=text)


def written() -> list[str]:
    return list(Entry.objects.order_by("id").values_list("listener", flat=True))


@pytest.fixture(params=[True, False], ids=["durable", "ephemeral"])
def is_durable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def deliver(is_durable: bool, blank: None) -> Callable[..., None]:  # noqa: F811
    """Send one message to these listeners and deliver it."""

    @dataclass
    class Sale(Channel):
        number: int
        channel_name = "sale"
        lock_notifications = is_durable

    def deliver(*functions: Callable[..., Any]) -> None:
        for function in functions:
            pgpubsub_sql.listener(Sale)(function)
        delivery = Delivery([Sale], using="default")
        if is_durable:
            notify(Sale, number=7)
            delivery.handle_stored("sale")
        else:
            hear(delivery, "sale", '{"number": 7}')

    return deliver


def test_async_listeners_write_in_the_transaction_of_their_message(deliver: Any) -> None:
    inside: list[Any] = []

    async def listen(number: int, context: dict[str, Any], notification: Any) -> None:
        await write(f"{number} {context} {notification.channel}")
        inside.append(await sync_to_async(lambda: connection.in_atomic_block)())
        inside.append(await sync_to_async(lambda: connection.connection.info.backend_pid)())

    pid = connection.connection and connection.connection.info.backend_pid
    deliver(listen)
    assert written() == ["7 {} sale"]
    assert inside == [True, connection.connection.info.backend_pid]
    assert pid in (None, connection.connection.info.backend_pid)
    assert not Notification.objects.exists()


def test_a_failing_async_listener_undoes_its_and_others_writes(
    deliver: Any, is_durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def first(number: int) -> None:
        await write("first")

    def second(number: int) -> None:
        Entry.objects.create(listener="second")

    async def third(number: int) -> None:
        await anotify("sale", number=8)
        await write("third")
        raise Undo("in a bad mood")

    deliver(first, second, third)
    assert written() == []
    assert "in a bad mood" in caplog.text
    left = Notification.objects.values_list("payload__number", "attempts")
    assert list(left) == ([(7, 1)] if is_durable else [])


def test_concurrent_queries_run_in_turn_on_one_connection(deliver: Any) -> None:
    async def listen(number: int) -> None:
        await asyncio.gather(*(write(str(index)) for index in range(5)))
        await asyncio.gather(write("good"), fail(), return_exceptions=True)

    async def fail() -> None:
        raise Undo

    deliver(listen)
    assert sorted(written()) == ["0", "1", "2", "3", "4", "good"]


def test_on_commit_callbacks_of_async_listeners_run_after_the_commit(deliver: Any) -> None:
    async def listen(number: int) -> None:
        await write("within")
        await sync_to_async(transaction.on_commit)(note_the_commit)

    def note_the_commit() -> None:
        assert not connection.in_atomic_block
        Entry.objects.create(listener="after")

    deliver(listen)
    assert written() == ["within", "after"]


def test_messages_of_async_listeners_are_sent_at_commit(deliver: Any, is_durable: bool) -> None:
    async def listen(number: int) -> None:
        await anotify("sale", number=8)

    with Ear("sale") as ear:
        deliver(listen)
        if is_durable:
            assert Notification.objects.get().payload == {"number": 8}
        else:
            (message,) = ear.messages()
            assert message["number"] == 8
