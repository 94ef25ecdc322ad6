"""Capturing what is sent in the transaction of a test."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction
from django.test import TestCase
from django.utils import timezone

import pgpubsub_sql
from example.blog.channels import AuthorChannel, PostReads
from example.blog.models import Author
from pgpubsub_sql.errors import NotReady, PubSubError
from pgpubsub_sql.testing import Message, PubSub, PubSubTestMixin
from tests.app.channels import ItemChannel, ItemNews, Job, Shout, Step
from tests.app.models import Item
from tests.ledger import sql

pytestmark = pytest.mark.django_db

TODAY = datetime.date(2026, 1, 31)


def definition() -> str:
    ((text,),) = sql("SELECT pg_get_functiondef('pgpubsub_send_v1'::regproc)")
    return text


def test_durable_and_ephemeral_messages_come_in_order(pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        pgpubsub_sql.notify(Shout, number=1)
        pgpubsub_sql.notify(Job, number=2)
        Item.objects.create(name="three")
        pgpubsub_sql.notify_many([Shout(4), Job(5)])
    # One row, two channels: the trigger that fires first is the one whose name comes first.
    assert [message.channel for message in sent[:2]] == [Shout, Job]
    assert {message.channel for message in sent[2:4]} == {ItemChannel, ItemNews}
    assert sorted(m.channel.__name__ for m in sent[4:]) == ["Job", "Shout"]
    assert [m.fields["number"] for m in sent.of(Shout)] == [1, 4]


def test_what_was_sent_before_and_after_does_not_count(pubsub: PubSub) -> None:
    pgpubsub_sql.notify(Job, number=1)
    pgpubsub_sql.notify(Shout, number=1)
    with pubsub.capture() as sent:
        pgpubsub_sql.notify(Job, number=2)
    pgpubsub_sql.notify(Job, number=3)
    pgpubsub_sql.notify(Shout, number=3)
    assert [message.fields["number"] for message in sent] == [2]


def test_a_message_has_decoded_values(pubsub: PubSub) -> None:
    at = timezone.now() + datetime.timedelta(hours=1)
    with pubsub.capture() as sent:
        with pgpubsub_sql.notification_context({"user": 7}):
            pgpubsub_sql.notify(PostReads, model_id=1, date=TODAY)
            pgpubsub_sql.notify(Step(account="a", number=1), at=at)
        author = Author.objects.create(name="Zoë")
        created = sent[-1]
        Item.objects.bulk_create([Item(name="a")])
        Item.objects.update(name="b")
    read, step, updated = sent[0], sent[1], sent.of(ItemChannel)[-1]
    assert (read.durable, step.durable) == (False, True)
    assert read.fields == {"model_id": 1, "date": TODAY, "source": None}
    assert read.payload["date"] == "2026-01-31"
    assert read.context == step.context == {"user": 7}
    assert (read.op, read.when, read.old, read.new) == (None, None, None, None)
    assert (step.key, step.available_at) == ('["a"]', at)
    assert (created.op, created.when, created.old, created.new) == ("INSERT", "AFTER", None, author)
    assert (updated.op, updated.old.name, updated.new.name) == ("UPDATE", "a", "b")


def test_a_long_ephemeral_message_is_captured_whole(pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        pgpubsub_sql.notify(Shout, number=1, mood="x" * 10_000)
    assert sent[0].fields["mood"] == "x" * 10_000


def test_a_savepoint_takes_its_messages_with_it(pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        with transaction.atomic():
            pgpubsub_sql.notify(Shout, number=1)
            pgpubsub_sql.notify(Job, number=1)
            assert len(sent) == 2
            transaction.set_rollback(True)
        pgpubsub_sql.notify(Shout, number=2)
    assert [message.fields["number"] for message in sent] == [2]


def test_a_capture_after_an_undone_one_works(pubsub: PubSub) -> None:
    """The table and the function of the first are undone with its savepoint."""
    with transaction.atomic():
        with pubsub.capture():
            pgpubsub_sql.notify(Shout, number=1)
        transaction.set_rollback(True)
    with pubsub.capture() as sent:
        pgpubsub_sql.notify(Shout, number=2)
    assert [message.fields["number"] for message in sent] == [2]


def test_the_function_that_sends_is_as_before(pubsub: PubSub) -> None:
    before = definition()
    with pubsub.capture():
        assert definition() != before
        with pubsub.capture():
            pgpubsub_sql.notify(Shout, number=1)
        assert definition() != before
    assert definition() == before
    with pytest.raises(ValueError, match="in the test"), pubsub.capture():
        raise ValueError("in the test")
    assert definition() == before


def test_captures_nest(pubsub: PubSub) -> None:
    with pubsub.capture() as outer:
        pgpubsub_sql.notify(Shout, number=1)
        with pubsub.capture() as inner:
            pgpubsub_sql.notify(Shout, number=2)
            assert pubsub.sent is inner
        assert pubsub.sent is outer
        pgpubsub_sql.notify(Shout, number=3)
    assert [m.fields["number"] for m in outer] == [1, 2, 3]
    assert [m.fields["number"] for m in inner] == [2]


def test_some_channels_only(pubsub: PubSub) -> None:
    with pubsub.capture(Shout, "blog.PostReads") as sent:
        pgpubsub_sql.notify(Shout, number=1)
        pgpubsub_sql.notify(Job, number=2)
        pgpubsub_sql.notify(PostReads, model_id=1, date=TODAY)
    assert [message.channel for message in sent] == [Shout, PostReads]


def test_callbacks_run_and_are_captured(pubsub: PubSub) -> None:
    called = []
    transaction.on_commit(lambda: called.append("the test's own"))
    with pubsub.capture(on_commit=True) as sent:
        transaction.on_commit(lambda: pgpubsub_sql.notify(Shout, number=1))
        transaction.on_commit(lambda: transaction.on_commit(lambda: called.append("nested")))
    assert len(sent) == 1
    assert called == ["nested"]
    with TestCase.captureOnCommitCallbacks() as left:
        pass
    assert left == []


def test_an_error_of_a_callback_raises_unless_it_is_robust(
    pubsub: PubSub, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("in the callback")

    with pubsub.capture(on_commit=True):
        transaction.on_commit(fail, robust=True)
    assert "in the callback" in caplog.text
    with pytest.raises(ValueError, match="in the callback"), pubsub.capture(on_commit=True):
        transaction.on_commit(fail)


def test_capturing_costs_no_query_of_the_test(
    pubsub: PubSub, django_assert_num_queries: object
) -> None:
    with django_assert_num_queries(1), pubsub.capture() as sent:  # type: ignore[operator]
        pgpubsub_sql.notify(Shout, number=1)
        assert len(sent) == 1


class TestRawNotifies:
    def test_pg_notify_is_captured(self, pubsub: PubSub) -> None:
        path = sql("SHOW search_path")
        with pubsub.capture(raw=True) as sent:
            sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
            pgpubsub_sql.notify(Shout, number=2)
            pgpubsub_sql.process_stored_notifications()  # it rings
        assert [message.fields["number"] for message in sent] == [1, 2]
        assert sql("SHOW search_path") == path
        assert sql("SELECT to_regnamespace('pgpubsub_sql_testing')") == [(None,)]

    def test_it_is_not_without_being_asked_for(self, pubsub: PubSub) -> None:
        with pubsub.capture() as sent:
            sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
        assert list(sent) == []

    @pytest.mark.parametrize(
        "statement", ["NOTIFY x, '{}'", "  notify x", "SELECT pg_catalog.pg_notify('x', '{}')"]
    )
    def test_what_cannot_be_heard_raises(self, statement: str, pubsub: PubSub) -> None:
        with pubsub.capture(raw=True), pytest.raises(PubSubError, match="cannot hear this: "):
            sql(statement)


class TestFailures:
    def test_the_messages_are_listed_with_what_differs(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            Author.objects.create(pk=1, name="Bo")
            pgpubsub_sql.notify(PostReads, model_id=1, date=TODAY)
        with pytest.raises(AssertionError) as failed:
            pubsub.assert_sent(AuthorChannel, new__name="Zoë", op="UPDATE", count=1)
        assert str(failed.value) == (
            "Expected 1 messages of blog.AuthorChannel with new__name='Zoë', op='UPDATE', and "
            "found 0. What was sent:\n"
            "  1. blog.AuthorChannel INSERT old=None, new=Author(id=1, name='Bo', bio='')\n"
            "       new__name is 'Bo'\n"
            "       op is 'INSERT'\n"
            "  2. blog.PostReads model_id=1, date=datetime.date(2026, 1, 31), source=None"
        )

    def test_nothing_was_sent(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            pass
        with pytest.raises(AssertionError, match=r"What was sent:\n  nothing$"):
            pubsub.assert_sent(PostReads)
        pubsub.assert_not_sent(PostReads)

    def test_too_many_were(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            pgpubsub_sql.notify_many([Shout(1), Shout(2)])
        with pytest.raises(AssertionError, match=r"Expected 1 messages .*found 2"):
            pubsub.assert_sent(Shout, count=1)
        with pytest.raises(AssertionError, match=r"Expected no messages .*number=2, and found 1"):
            pubsub.assert_not_sent(Shout, number=2)
        assert pubsub.assert_sent(Shout, count=2).fields["number"] == 1

    def test_a_message_on_a_channel_that_nobody_declares(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            sql("SELECT pgpubsub_notify('blog.Typo', '{}')")
        with pytest.raises(AssertionError, match=r"\(undeclared\) blog.Typo {}"):
            pubsub.assert_sent(PostReads)

    def test_a_message_that_does_not_fit(self, pubsub: PubSub) -> None:
        with pubsub.capture() as sent:
            sql("SELECT pgpubsub_notify('app.Job', '{\"number\": \"x\"}')")
        with pytest.raises(AssertionError, match=r'app.Job {"number": "x"}\n +app.Job: .*number'):
            pubsub.assert_sent(Job, number=1)
        assert sent[0].payload == {"number": "x"}

    def test_nothing_was_captured(self, pubsub: PubSub) -> None:
        with pytest.raises(AssertionError, match="Nothing was captured"):
            pubsub.assert_sent(PostReads)

    def test_a_lookup_that_no_message_has(self, pubsub: PubSub) -> None:
        """Otherwise a slip of the pen would satisfy assert_not_sent()."""
        with pubsub.capture():
            Author.objects.create(name="Bo")
        with pytest.raises(TypeError, match=r"Messages of blog.PostReads have no 'modelid'"):
            pubsub.assert_not_sent(PostReads, modelid=1)
        with pytest.raises(Exception, match="Author has no field or attribute 'nmae'"):
            pubsub.assert_not_sent(AuthorChannel, new__nmae="Zoë")

    def test_many_messages_are_cut_short(self, pubsub: PubSub) -> None:
        with pubsub.capture():
            pgpubsub_sql.notify_many(Shout(number) for number in range(25))
        with pytest.raises(AssertionError, match="… and 5 more"):
            pubsub.assert_sent(Job)


def test_another_role_than_the_owner_is_told(pubsub: PubSub) -> None:
    sql("CREATE ROLE tester; GRANT USAGE ON SCHEMA public TO tester; SET LOCAL ROLE tester")
    with pytest.raises(NotReady, match="role that owns the function"), pubsub.capture():
        pass


def test_messages_of_a_channel_are_typed(pubsub: PubSub) -> None:
    with pubsub.capture() as sent:
        Author.objects.create(name="Zoë")
    message: Message[AuthorChannel] = sent.of(AuthorChannel)[0]
    assert message.channel is AuthorChannel


class MixinTest(PubSubTestMixin, TestCase):
    def test_the_assertions_of_the_mixin(self) -> None:
        with self.pubsub.capture(on_commit=True):
            Author.objects.create(name="Zoë")
        self.assertSent(AuthorChannel, op="INSERT", new__name="Zoë", count=1)
        self.assertNotSent(PostReads)
        with pytest.raises(AssertionError):
            self.assertNotSent(AuthorChannel)

    async def test_async(self) -> None:
        async with self.pubsub.capture():
            await Author.objects.acreate(name="Zoë")
            await pgpubsub_sql.anotify(Shout, number=1)
        self.assertSent(AuthorChannel, count=1)
        self.assertSent(Shout, number=1)
