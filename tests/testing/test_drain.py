"""Having messages handled within the transaction of a test."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase
from django.utils import timezone

import pgpubsub_sql
from example.blog.channels import AuthorChannel, PostReads
from example.blog.listeners import count_read, write_first_post
from example.blog.models import Author, Post
from pgpubsub_sql.errors import ListenerError, PayloadError
from pgpubsub_sql.models import Notification
from pgpubsub_sql.testing import PubSub, PubSubTestMixin
from tests.app import listeners
from tests.app.channels import ItemChannel, ItemNews, Job, Load, Shout, Step
from tests.app.models import Item
from tests.ledger import calls, numbers, sql, stored, stranger

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


def send(*moods: str, channel: Any = Job) -> None:
    pgpubsub_sql.notify_many(channel(n, mood) for n, mood in enumerate(moods, 1))


def test_stored_messages_and_what_they_lead_to_are_handled(pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        Author.objects.create(name="Zoë")
        handled = pubsub.drain()
    assert [type(one.message.channel) for one in handled] == [type]
    assert Post.objects.get().title == "Welcome, Zoë!"
    assert not Notification.objects.exists()
    assert [message.channel for message in sent] == [AuthorChannel]
    pubsub.assert_handled(write_first_post, new__name="Zoë", count=1)
    pubsub.assert_not_handled(write_first_post, new__name="Bo")


def test_captured_messages_are_handled(pubsub: PubSub) -> None:
    with pubsub.capture():
        pgpubsub_sql.notify(Shout, number=1)
    handled = pubsub.drain()
    assert len(handled) == 1
    assert numbers("hear") == numbers("hear_only_number") == [1]
    assert list(pubsub.drain()) == []


def test_what_listeners_send_is_handled(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(listeners.MOODS, "chain", lambda: send("good", channel=Shout))
    with pubsub.capture() as sent:
        send("chain")
    pubsub.drain()
    assert numbers("hear") == [1]
    assert [message.channel for message in sent] == [Job]


def test_some_channels_only(pubsub: PubSub) -> None:
    Item.objects.create(name="a")
    pgpubsub_sql.notify(Job, number=1)
    pubsub.drain(Job)
    assert numbers("do_job") == [1]
    assert Notification.from_channel(ItemChannel).exists()


def test_an_async_listener_is_handled(pubsub: PubSub) -> None:
    with pubsub.capture():
        send("async", channel=Shout)
    pubsub.drain()
    assert numbers("hear_async") == [1]


class TestErrors:
    def test_the_first_one_is_raised_as_it_was(self, pubsub: PubSub) -> None:
        send("good", "bad", "broken-sql")
        with pytest.raises(RuntimeError, match="in a bad mood") as failed:
            pubsub.drain()
        assert failed.traceback[-1].name == "fail"
        assert numbers("do_job") == [1]
        rows = stored()
        assert rows[2].attempts == 1
        assert "in a bad mood" in rows[2].last_error

    def test_all_are_kept(self, pubsub: PubSub) -> None:
        send("bad", "good", "discard", "retry after")
        handled = pubsub.drain(raise_errors=False)
        assert [type(error) for error in handled.errors] == [RuntimeError, pgpubsub_sql.RetryAfter]
        assert [one.succeeded for one in handled] == [False, True, False, False]
        assert [one.discarded for one in handled] == [False, False, True, False]
        assert handled[3].retry_in == 1000
        pubsub.assert_handled(listeners.do_job, count=1, number=2)

    def test_one_of_an_ephemeral_message(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            send("bad", "good", channel=Shout)
        with pytest.raises(RuntimeError, match="in a bad mood"):
            pubsub.drain()
        assert numbers("hear") == []
        pubsub.drain()
        assert numbers("hear") == [2]

    def test_one_of_decoding(self, pubsub: PubSub) -> None:
        sql("SELECT pgpubsub_notify('app.Job', '{}')")
        with pytest.raises(PayloadError, match="number"):
            pubsub.drain()

    @pytest.mark.parametrize(
        "mood", ["raw error", "dangling", "rollback", "never left", "swallowed"]
    )
    def test_a_message_is_undone_alone(self, mood: str, pubsub: PubSub) -> None:
        send("good", mood, "good")
        handled = pubsub.drain(raise_errors=False)
        assert numbers("do_job") == [1, 3]
        assert len(handled.errors) == 1
        assert stored().keys() == {2}

    def test_a_batch_that_cannot_be_undone_in_part_is_repeated(self, pubsub: PubSub) -> None:
        send("good", "unseen error", "good")
        handled = pubsub.drain(raise_errors=False)
        assert numbers("do_job") == [1, 3]
        assert [one.message.fields["number"] for one in handled if one.error] == [2]

    def test_a_repeated_batch_does_not_count_twice(self, pubsub: PubSub) -> None:
        send("good", "unseen error", "good")
        handled = pubsub.drain(raise_errors=False, limit=4)
        assert len(handled) == 3
        assert not handled.given_up_at_limit


class TestCallbacks:
    def test_those_of_listeners_run_after_their_batch(self, pubsub: PubSub) -> None:
        send("call back both")
        with TestCase.captureOnCommitCallbacks() as left:
            pubsub.drain()
        assert len(calls("called back")) == 2
        assert left == []

    @pytest.mark.parametrize("channel", [Job, Shout])
    def test_their_errors_raise(self, channel: Any, pubsub: PubSub) -> None:
        with pubsub.capture():
            send("call back badly", channel=channel)
        with pytest.raises(RuntimeError, match="this callback is in a bad mood"):
            pubsub.drain()

    @pytest.mark.parametrize("channel", [Job, Shout])
    def test_those_of_the_test_stay(self, channel: Any, pubsub: PubSub) -> None:
        called: list[str] = []

        def own() -> None:
            called.append("own")

        with TestCase.captureOnCommitCallbacks() as left:
            transaction.on_commit(own)
            with pubsub.capture():
                send("good", "call back both", channel=channel)
            pubsub.drain()
        assert left == [own]
        assert called == []


class TestTime:
    def test_what_waits_is_left(self, pubsub: PubSub) -> None:
        pgpubsub_sql.notify(Job(1), delay=HOUR)
        assert list(pubsub.drain()) == []

    def test_time_passes_in_order(self, pubsub: PubSub) -> None:
        for number, hours in enumerate([3, 1, 2]):
            pgpubsub_sql.notify(Job(number), delay=hours * HOUR)
        pubsub.drain(waiting=True)
        assert numbers("do_job") == [1, 2, 0]

    def test_attempts_are_repeated_until_a_message_is_parked(self, pubsub: PubSub) -> None:
        send("bad")
        handled = pubsub.drain(waiting=True, raise_errors=False)
        assert len(handled) == Job.retry.max_attempts
        assert handled[-1].parked
        message = pubsub.assert_parked(Job, error__contains="in a bad mood", attempts=10, count=1)
        assert message.fields["mood"] == "bad"

    def test_a_message_expires_meanwhile(self, pubsub: PubSub) -> None:
        pgpubsub_sql.notify(Job(1), delay=2 * HOUR, expires=timezone.now() + HOUR)
        assert list(pubsub.drain(waiting=True)) == []
        assert not Notification.objects.exists()

    def test_at_another_time(self, pubsub: PubSub) -> None:
        for hours in (1, 2, 4):
            pgpubsub_sql.notify(Job(hours), delay=hours * HOUR)
        (before,) = Notification.objects.filter(payload__number=4)
        pubsub.drain(at=timezone.now() + 3 * HOUR)
        assert numbers("do_job") == [1, 2]
        (after,) = Notification.objects.all()
        assert abs(after.available_at - before.available_at) < datetime.timedelta(seconds=1)
        with pytest.raises(ValueError, match="either waiting"):
            pubsub.drain(waiting=True, at=timezone.now())


def test_it_gives_up_at_the_limit(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(listeners.MOODS, "endless", lambda: send("endless"))
    send("endless")
    handled = pubsub.drain(limit=7)
    assert len(handled) == 7
    assert handled.given_up_at_limit
    assert not PubSub().drain(Step, limit=7).given_up_at_limit
    Notification.objects.all().delete()
    send(*["good"] * 7)
    assert not pubsub.drain(limit=7).given_up_at_limit


class TestRawNotifies:
    def test_they_are_handled(self, pubsub: PubSub) -> None:
        with pubsub.capture(raw=True):
            sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
            sql("SELECT pg_notify('app.Job', '{\"number\": 2}')")
        pubsub.drain()
        assert numbers("hear") == [1]
        assert numbers("do_job") == [2]

    def test_a_channel_may_refuse_them(
        self, pubsub: PubSub, caplog: pytest.LogCaptureFixture
    ) -> None:
        row = '{"op": "INSERT", "new": {"id": 1, "name": "x"}}'
        with pubsub.capture(raw=True):
            sql("SELECT pg_notify(%s, %s)", ItemNews.postgres_name(), row)
        assert list(pubsub.drain()) == []
        assert "Refused messages that came by NOTIFY" in caplog.text


class TestPerform:
    def test_one_listener_is_called(self, pubsub: PubSub) -> None:
        pubsub.perform(write_first_post, new=Author(name="Bo"))
        post = Post.objects.filter(title="Welcome, Bo!")
        assert post.values_list("author_id", flat=True).get() == -1
        Post.objects.all().delete()  # or the test would end with a dangling key

    def test_the_others_are_not(self, pubsub: PubSub) -> None:
        pubsub.perform(listeners.hear_only_number, number=7)
        assert numbers("hear_only_number") == [7]
        assert numbers("hear") == []

    def test_values_travel(self, pubsub: PubSub) -> None:
        item = Item.objects.create(name="ä", amount="1.50", data={"a": [1]})
        pubsub.perform(listeners.item_inserted, new=item)
        assert calls("item_inserted") == [{"name": "ä", "amount": "1.50", "data": {"a": [1]}}]
        assert not Notification.from_channel(ItemChannel).exclude(payload__op="INSERT").exists()

    def test_the_event_is_inferred(self, pubsub: PubSub) -> None:
        a, b = Item(pk=1, name="a"), Item(pk=1, name="b")
        pubsub.perform(listeners.item_updated, old=a, new=b, context={"user": 7})
        assert calls("item_updated") == [{"old": "a", "new": "b", "context": {"user": 7}}]
        pubsub.perform(listeners.item_deleted, old=a)
        pubsub.perform(listeners.item_saved, op="update", new=b)
        with pytest.raises(PayloadError, match="does not get messages about DELETE, but about"):
            pubsub.perform(listeners.item_inserted, old=a)

    def test_a_decorated_listener(self, pubsub: PubSub) -> None:
        pubsub.perform(listeners.user_inserted, new=User(username="zoe"))
        assert len(calls("user_inserted")) == 2

    def test_what_it_raises(self, pubsub: PubSub) -> None:
        with pytest.raises(RuntimeError, match="in a bad mood"):
            pubsub.perform(listeners.do_job, number=1, mood="bad")
        assert numbers("do_job") == []
        with pytest.raises(RuntimeError, match="this callback"):
            pubsub.perform(listeners.do_job, number=1, mood="call back badly")
        with pytest.raises(PayloadError, match=r"app\.Job"):
            pubsub.perform(listeners.do_job, count=1)
        with pytest.raises(LookupError, match="send is not a listener"):
            pubsub.perform(send, number=1)

    def test_context(self, pubsub: PubSub) -> None:
        pubsub.perform(listeners.do_job, number=1, context={"user": 7})
        assert calls("do_job") == [{"number": 1, "attempts": 0, "context": {"user": 7}}]


class TestBatchListeners:
    def test_a_list_is_handled(self, pubsub: PubSub) -> None:
        send("good", "bad", "good", channel=Load)
        handled = pubsub.drain(raise_errors=False)
        assert [one.succeeded for one in handled] == [True, False, True]
        pubsub.assert_handled(listeners.load, count=2)
        pubsub.assert_handled(listeners.load, number=3, count=1)
        pubsub.assert_not_handled(listeners.load, number=2)
        assert numbers("load") == [1, 3]

    def test_what_it_raises(self, pubsub: PubSub) -> None:
        send("good", "bad", channel=Load)
        with pytest.raises(RuntimeError, match="in a bad mood"):
            pubsub.drain()
        assert numbers("load") == [1]
        assert [row.attempts for row in stored().values()] == [1]

    def test_an_outage_is_over_at_the_limit(self, pubsub: PubSub) -> None:
        """Nobody is charged, so that it would go on for ever."""
        send("good", "good", channel=Load)
        with pubsub.failing(listeners.load) as failed:
            handled = pubsub.drain(waiting=True, raise_errors=False, limit=10)
        assert handled.given_up_at_limit
        assert [call.arguments["messages"] for call in failed][:3] == [
            [Load(1), Load(2)],
            [Load(1)],
            [Load(2)],
        ]
        assert {row.attempts for row in stored().values()} == {0}

    def test_it_fails_a_number_of_times(self, pubsub: PubSub) -> None:
        send("good", "good", channel=Load)
        with pubsub.failing(listeners.load, times=1, error=OSError("no network")):
            handled = pubsub.drain(raise_errors=False)
        assert handled.errors == []
        pubsub.assert_handled(listeners.load, count=2)

    def test_one_that_fails_always_is_parked(self, pubsub: PubSub) -> None:
        send("good", channel=Load)
        with pubsub.failing(listeners.load):
            pubsub.drain(waiting=True, raise_errors=False)
        pubsub.assert_parked(Load, error__contains="made to fail by the test")

    def test_no_more_are_handled_than_the_limit(self, pubsub: PubSub) -> None:
        send(*["good"] * 5, channel=Load)
        handled = pubsub.drain(limit=3)
        assert len(handled) == 3
        assert handled.given_up_at_limit

    def test_perform_calls_it_with_a_list(self, pubsub: PubSub) -> None:
        pubsub.perform(listeners.load, number=7)
        pubsub.perform(listeners.load, [Load(8), Load(9)])
        assert numbers("load") == [7, 8, 9]
        assert listeners.lists[-2:] == [[7], [8, 9]]
        pubsub.assert_handled(listeners.load, count=3)

    def test_perform_raises_what_it_raises(self, pubsub: PubSub) -> None:
        with pytest.raises(RuntimeError, match="in a bad mood"):
            pubsub.perform(listeners.load, [Load(1), Load(2, "bad")])
        with pytest.raises(RuntimeError, match="this callback"):
            pubsub.perform(listeners.load, [Load(1, "call back badly")])
        assert numbers("load") == [1]
        with pytest.raises(TypeError, match="either fields or, for a batch listener, a list"):
            pubsub.perform(listeners.load, [Load(1)], number=1)
        with pytest.raises(TypeError, match="either fields or"):
            pubsub.perform(listeners.do_job, [Job(1)])


class TestFailing:
    def test_a_listener_fails_a_number_of_times(self, pubsub: PubSub) -> None:
        send("good")
        with pubsub.failing(listeners.do_job, times=2, error=OSError("no network")) as failed:
            handled = pubsub.drain(waiting=True, raise_errors=False)
        assert [str(error) for error in handled.errors] == ["no network"] * 2
        assert [call.arguments["number"] for call in failed] == [1, 1]
        pubsub.assert_handled(listeners.do_job, count=1)

    def test_it_fails_always(self, pubsub: PubSub) -> None:
        send("good")
        with pubsub.failing(listeners.do_job):
            pubsub.drain(waiting=True, raise_errors=False)
        pubsub.assert_parked(Job, error__contains="made to fail by the test")
        pubsub.assert_not_handled(listeners.do_job)
        assert numbers("do_job") == []


class TestMuted:
    def test_nothing_is_sent(self, pubsub: PubSub) -> None:
        pgpubsub_sql.notify(Job, number=1)
        with pubsub.capture() as sent:
            with pubsub.muted():
                Author.objects.create(name="Zoë")
                pgpubsub_sql.notify(Job, number=2)
                pgpubsub_sql.notify(Shout, number=2)
            assert list(sent) == []
        pubsub.drain()
        assert numbers("do_job") == [1]
        assert numbers("hear") == []

    def test_on_some_channels(self, pubsub: PubSub) -> None:
        with pubsub.capture() as sent, pubsub.muted(ItemChannel, Job):
            Item.objects.create(name="a")
            pgpubsub_sql.notify(Job, number=2)
        assert {message.channel for message in sent} == {ItemNews}


def test_messages_are_discarded(pubsub: PubSub) -> None:
    with pubsub.capture():
        Author.objects.create(name="Zoë")
        send("good", channel=Shout)
        send("good")
    assert pubsub.discard(Job, Shout) == 2
    assert pubsub.discard() == 1
    assert list(pubsub.drain()) == []


class TestFailures:
    def test_what_was_handled_is_listed(self, pubsub: PubSub) -> None:
        send("good", "bad")
        pubsub.drain(raise_errors=False)
        with pytest.raises(AssertionError) as failed:
            pubsub.assert_handled(listeners.do_job, number=2)
        text = str(failed.value)
        assert "handled by tests.app.listeners.do_job with number=2, and found 0" in text
        assert "1. app.Job number=1, mood='good': handled\n" in text
        assert "number is 1" in text
        assert "to be retried, after RuntimeError('this listener is in a bad mood')" in text

    def test_nothing_was_handled(self, pubsub: PubSub) -> None:
        with pytest.raises(AssertionError, match=r"What was handled:\n  nothing"):
            pubsub.assert_handled(count_read)

    def test_what_is_parked_is_listed(self, pubsub: PubSub) -> None:
        sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
        Notification.objects.update(available_at=None, last_error="no luck")
        with pytest.raises(AssertionError, match=r"error is 'no luck'"):
            pubsub.assert_parked(Job, error__contains="SMTP")
        with pytest.raises(AssertionError, match="Expected 1 parked messages"):
            pubsub.assert_parked(PostReads, count=1)


class GuardedTest(PubSubTestMixin, TestCase):
    """Whatever a listener does, its message fails, and the class goes on."""

    @classmethod
    def setUpTestData(cls) -> None:
        with cls.pubsub.muted():
            cls.author = Author.objects.create(name="Zoë")

    def test_a_closed_connection(self) -> None:
        send("good", "close", "good")
        handled = self.pubsub.drain(raise_errors=False)
        assert "closed the connection" in str(handled.errors[0])
        assert numbers("do_job") == [1, 3]

    def test_a_commit(self) -> None:
        for number, mood in enumerate(["COMMIT", "close"]):
            with self.subTest(mood), pytest.raises(ListenerError):
                self.pubsub.perform(listeners.do_job, number=number, mood=mood)
        assert numbers("do_job") == []

    def test_a_later_test_finds_the_data_of_the_class(self) -> None:
        assert Author.objects.get() == self.author
        assert connection.in_atomic_block

    async def test_async(self) -> None:
        await Author.objects.acreate(name="Bo")
        await self.pubsub.adrain()
        self.assertHandled(write_first_post, new__name="Bo")
        self.assertNotHandled(write_first_post, new__name="Zoë")


class DriverCommitTest(PubSubTestMixin, TestCase):
    """The driver's own commit() cannot be refused."""

    def test_1_its_message_fails(self) -> None:
        pgpubsub_sql.notify(Job, number=1, mood="commit raw")
        with pytest.raises(ListenerError, match=r"the driver's own commit\(\)"):
            self.pubsub.drain()
        with stranger() as cursor:  # what was committed stays
            cursor.execute("DELETE FROM app_entry")
            cursor.execute("DELETE FROM pgpubsub_sql_notification")
            cursor.execute("SELECT pg_get_functiondef('pgpubsub_send_v1'::regproc)")
            assert "captured" not in cursor.fetchone()[0]

    def test_2_the_next_test_works(self) -> None:
        send("good")
        self.pubsub.drain()
        assert numbers("do_job") == [1]
