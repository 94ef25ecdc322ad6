"""Tests that commit: capturing and draining without a transaction, and live workers."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction
from django.test import TransactionTestCase

import pgpubsub_sql
from example.blog.channels import AuthorChannel
from example.blog.listeners import write_first_post
from example.blog.models import Author, Post
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.models import Notification
from pgpubsub_sql.testing import PubSub, PubSubTestMixin
from tests.app import listeners
from tests.app.channels import Job, Shout
from tests.conftest import eventually
from tests.ledger import numbers, sql

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_committed_is_captured(pubsub: PubSub) -> None:
    before = sql("SELECT xmin FROM pg_proc WHERE proname = 'pgpubsub_send_v1'")
    with pubsub.capture() as sent:
        Author.objects.create(name="Zoë")
        pgpubsub_sql.notify(Shout, number=1)
        pgpubsub_sql.notify(Shout, number=2, mood="x" * 10_000)
        with transaction.atomic():
            pgpubsub_sql.notify(Shout, number=3)
            transaction.set_rollback(True)
    assert [message.channel for message in sent] == [AuthorChannel, Shout, Shout]
    assert [len(message.fields["mood"]) for message in sent.of(Shout)] == [4, 10_000]
    assert sent.of(Shout)[0].payload == {"number": 1, "mood": "good", "at": None, "places": []}
    assert sql("SELECT xmin FROM pg_proc WHERE proname = 'pgpubsub_send_v1'") == before


def test_so_is_what_others_commit(pubsub: PubSub) -> None:
    def send() -> None:
        pgpubsub_sql.notify(Shout, number=7)
        connections.close_all()

    with pubsub.capture() as sent:
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        assert len(sent) == 1
    pubsub.assert_sent(Shout, number=7)


def test_what_was_sent_before_does_not_count(pubsub: PubSub) -> None:
    with pubsub.capture() as outer:
        pgpubsub_sql.notify(Shout, number=1)
        with pubsub.capture() as inner:
            pgpubsub_sql.notify(Shout, number=2)
    assert [message.fields["number"] for message in inner] == [2]
    assert [message.fields["number"] for message in outer] == [1, 2]


def test_messages_are_handled_and_what_they_lead_to(
    pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        pgpubsub_sql.notify(Shout, number=2)

    monkeypatch.setitem(listeners.MOODS, "chain", send)
    with pubsub.capture():
        pgpubsub_sql.notify(Shout, number=1)
        pgpubsub_sql.notify(Job, number=1, mood="chain")
    pubsub.drain()
    assert sorted(numbers("hear")) == [1, 2]
    pubsub.assert_handled(listeners.hear, count=2)
    assert list(pubsub.drain()) == []


def test_a_transaction_above_read_committed(pubsub: PubSub) -> None:
    """PostgreSQL refuses SET TRANSACTION once a transaction has queried."""
    with transaction.atomic():
        sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        pgpubsub_sql.notify(Job, number=1)
        pubsub.drain()
    pubsub.assert_handled(listeners.do_job, count=1)


def test_a_callback_fails_after_the_commit(pubsub: PubSub) -> None:
    pgpubsub_sql.notify(Job, number=1, mood="call back badly")
    with pytest.raises(RuntimeError, match="this callback is in a bad mood"):
        pubsub.drain()
    assert numbers("do_job") == [1]


def test_raw_notifies_are_heard_in_any_case(pubsub: PubSub) -> None:
    with pubsub.capture(raw=True):
        sql("SELECT pg_catalog.pg_notify('app.Shout', '{\"number\": 1}')")
        sql('NOTIFY "app.Job", \'{"number": 2}\'')
    pubsub.drain()
    assert (numbers("hear"), numbers("do_job")) == ([1], [2])


def test_a_live_worker_refuses_a_transaction(pubsub: PubSub) -> None:
    refused = pytest.raises(NotReady, match="sees only what is committed")
    with transaction.atomic(), refused, pubsub.live_worker():
        pass


def test_a_worker_in_processes(pubsub: PubSub) -> None:
    with pubsub.live_worker(AuthorChannel, processes=1) as live:
        Author.objects.create(name="Zoë")
        eventually(lambda: not Notification.objects.exists())
    assert Post.objects.get().title == "Welcome, Zoë!"
    assert "Listening to blog.AuthorChannel" in live.log


class LiveTest(PubSubTestMixin, TransactionTestCase):
    def test_a_worker_in_a_thread(self) -> None:
        with self.pubsub.live_worker():
            Author.objects.create(name="Zoë")
            pgpubsub_sql.notify(Shout, number=1)
            self.assertHandled(write_first_post, new__name="Zoë", within=20)
            self.assertHandled(listeners.hear, number=1, within=20)
        assert numbers("hear") == [1]

    def test_its_listeners_can_fail(self) -> None:
        with self.pubsub.live_worker(Job), self.pubsub.failing(listeners.do_job) as failed:
            with transaction.atomic():
                sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
                Notification.objects.update(attempts=9)
            self.assertParked(Job, error__contains="made to fail", within=20)
        assert len(failed) == 1
