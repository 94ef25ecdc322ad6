"""The test kit with subscriptions: a message is sent once, and each handles a copy by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

import pgpubsub_sql
from pgpubsub_sql import notify, notify_many
from pgpubsub_sql.models import Notification
from pgpubsub_sql.testing import PubSub
from tests.ledger import sql
from tests.registries import blank

__all__ = ("blank",)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("blank")]


class Kit:
    """A channel with three subscriptions, of which "mail" fails for odd numbers."""

    def __init__(self) -> None:
        @dataclass
        class Sale(pgpubsub_sql.Channel):
            number: int
            channel_name = "sale"
            lock_notifications = True

        @pgpubsub_sql.listener(Sale)
        def count(number: int) -> None: ...

        @pgpubsub_sql.listener(Sale, subscription="mail")
        def send_mail(number: int) -> None:
            if number % 2:
                raise OSError("the mail server is down")

        @pgpubsub_sql.batch_listener(Sale, subscription="search")
        def index(messages: list[Any]) -> None: ...

        self.channel: Any = Sale
        self.count: Callable[..., Any] = count
        self.send_mail: Callable[..., Any] = send_mail
        self.index: Callable[..., Any] = index

    def numbers(self, messages: Any) -> list[int]:
        return [one.fields["number"] for one in messages]


@pytest.fixture
def kit() -> Kit:
    for name in ("", "mail", "search"):
        sql("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES ('sale', %s)", name)
    return Kit()


def test_a_message_is_sent_once(kit: Kit, pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        notify(kit.channel, number=1)
        notify_many([kit.channel(2), kit.channel(3)])
        assert kit.numbers(sent) == [1, 2, 3]
    assert Notification.objects.count() == 9
    message = pubsub.assert_sent(kit.channel, number=2, count=1)
    assert message.subscription == ""
    assert str(message) == "sale number=2"
    pubsub.assert_sent(kit.channel, count=3)


def test_it_is_sent_once_whoever_handles_it_meanwhile(kit: Kit, pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        notify(kit.channel, number=2)
        for name in ("search", "", "mail"):
            pubsub.drain(subscription=name)
            assert kit.numbers(sent) == [2]
    assert kit.numbers(sent) == [2]


def test_a_copy_that_was_made_later_was_not_sent(kit: Kit, pubsub: PubSub) -> None:
    """Its number says when its message was."""
    notify(kit.channel, number=1)
    with pubsub.capture() as sent:
        sql(
            "INSERT INTO pgpubsub_sql_notification (channel, subscription, message, payload)"
            " SELECT channel, 'late', message, payload FROM pgpubsub_sql_notification LIMIT 1"
        )
        assert list(sent) == []


def test_each_handles_and_parks_by_itself(kit: Kit, pubsub: PubSub) -> None:
    notify_many([kit.channel(1), kit.channel(2)])
    handled = pubsub.drain(waiting=True, raise_errors=False)
    assert {str(one) for one in handled if one.parked} == {
        "sale (mail) number=1: parked, after OSError('the mail server is down') in "
        f"{__name__}.{kit.send_mail.__qualname__}"
    }
    assert {(one.message.subscription, one.succeeded) for one in handled} == {
        *[("", True), ("search", True)],
        *[("mail", True), ("mail", False)],
    }
    pubsub.assert_handled(kit.count, count=2)
    pubsub.assert_handled(kit.index, count=2)
    pubsub.assert_handled(kit.send_mail, count=1, number=2)
    pubsub.assert_parked(kit.channel, subscription="mail", number=1, count=1)
    with pytest.raises(AssertionError, match=r"1\. sale \(mail\) number=1\n.*'mail'"):
        pubsub.assert_parked(kit.channel, subscription="search")


def test_one_is_handled(kit: Kit, pubsub: PubSub) -> None:
    notify(kit.channel, number=2)
    handled = pubsub.drain(kit.channel, subscription="search")
    assert [one.message.subscription for one in handled] == ["search"]
    pubsub.assert_handled(kit.index, number=2, count=1)
    pubsub.assert_not_handled(kit.count)
    assert {row.subscription for row in Notification.objects.all()} == {"", "mail"}
    assert len(pubsub.drain(subscription="")) == 1
    pubsub.assert_handled(kit.count, count=1)


def test_one_is_handled_from_a_coroutine(kit: Kit, pubsub: PubSub) -> None:
    notify(kit.channel, number=2)
    handled = async_to_sync(pubsub.adrain)(subscription="mail")
    assert [one.message.subscription for one in handled] == ["mail"]


def test_mistakes_are_explained(kit: Kit, pubsub: PubSub) -> None:
    with pytest.raises(ValueError, match=r"subscription 'mial'\. They have '', 'mail', 'search'"):
        pubsub.drain(subscription="mial")
    with pubsub.capture(), pytest.raises(TypeError, match="have no 'subscription'"):
        pubsub.assert_sent(kit.channel, subscription="mail")


def test_one_listener_is_performed_within_its_subscription(kit: Kit, pubsub: PubSub) -> None:
    pubsub.perform(kit.send_mail, number=2)
    pubsub.assert_handled(kit.send_mail, number=2, count=1)
    pubsub.assert_not_handled(kit.count)
    pubsub.perform(kit.index, [kit.channel(1), kit.channel(2)])
    pubsub.assert_handled(kit.index, count=2)


def test_messages_are_discarded_with_all_copies(kit: Kit, pubsub: PubSub) -> None:
    with transaction.atomic():
        notify_many([kit.channel(1), kit.channel(2)])
    assert pubsub.discard(kit.channel) == 2
    assert not Notification.objects.exists()
    with pubsub.muted(kit.channel):
        notify(kit.channel, number=3)
    assert not Notification.objects.exists()
    assert connection.in_atomic_block
