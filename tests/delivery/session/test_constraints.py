"""Constraints have their default mode in each message."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import IntegrityError, transaction

from example.blog.models import Author, Post
from pgpubsub_sql.models import Notification
from pgpubsub_sql.worker import baseline
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.channels import Job
from tests.app.listeners import called, execute
from tests.delivery.sending import drain, jobs
from tests.delivery.session.support import mood
from tests.ledger import numbers, sql, stored

pytestmark = pytest.mark.django_db(transaction=True)


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
