"""The audit would notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql.models import Notification
from tests.kept import kept_by
from tests.ledger import sql
from tests.torture.audit import audit
from tests.torture.channels import OrderedRows
from tests.torture.models import Dirt, Handled, Name, Overheard, Written
from tests.torture.stage import DECOY, make_decoys

CHANNEL = "torture.Ordered"


@pytest.fixture(autouse=True)
def books(db: None) -> None:
    """Two writers' events, all of them as they should be, and one that nobody can read."""
    with connection.schema_editor() as editor:
        for model in (Written, Handled, Name, Overheard, Dirt):
            editor.create_model(model)
    make_decoys()
    notification = 0
    for number in (1, 2, 3):
        for writer in (1, 2):
            notification += 1
            write(writer, number)
            handle(writer, number, notification)
    write(1, 4, is_to_park=True)
    park(1, 4)
    overhear(2, 1, process=1)
    overhear(2, 1, process=2)


def write(writer: int, number: int, **fields: Any) -> None:
    Written.objects.create(writer=writer, number=number, channel=CHANNEL, kind="SQL", **fields)


def handle(writer: int, number: int, notification: int, key: str | None = "locked 1") -> None:
    entry = {"writer": writer, "number": number, "channel": CHANNEL, "attempts": 0}
    Handled.objects.create(notification=notification, key=key, **entry)


def park(writer: int, number: int) -> None:
    store(CHANNEL, {"writer": writer, "number": number})


def store(channel: str, payload: object) -> None:
    Notification.objects.create(channel=channel, payload=payload, available_at=None)


def overhear(writer: int, number: int, process: int) -> None:
    Overheard.objects.create(writer=writer, number=number, process=process)


def go_astray(table: str) -> None:
    """Have the last entry be in the wrong schema, too."""
    sql(f"INSERT INTO {DECOY}.{table} SELECT * FROM {table} ORDER BY id DESC LIMIT 1")


def swap(one: tuple[int, int], other: tuple[int, int]) -> None:
    """Have the ledger say that what was handled as *one* was handled as *other*."""
    first, second = (
        Handled.objects.get(writer=writer, number=number) for writer, number in (one, other)
    )
    first.id, second.id = second.id, first.id
    first.save()
    second.save()


def free(change: Callable[[], object]) -> None:
    """Do *change* where writers have not waited for one another."""
    Handled.objects.update(key="free 1")
    change()


def test_true_books_are_found_true() -> None:
    assert audit() == {}


@pytest.mark.parametrize(
    ("doctor", "finding", "event"),
    [
        (lambda: Handled.objects.filter(writer=1, number=2).delete(), "lost", (1, 2)),
        (lambda: Notification.objects.all().delete(), "lost", (1, 4)),
        (lambda: handle(2, 3, 6), "twice", (2, 3)),
        (lambda: Written.objects.filter(writer=1, number=3).delete(), "ghosts", (1, 3)),
        (lambda: handle(1, 4, 7), "ghosts", (1, 4)),
        (lambda: swap((1, 3), (2, 3)), "out of order", (1, 3)),
        (lambda: free(lambda: swap((1, 2), (1, 3))), "out of order", (1, 2)),
        (lambda: park(9, 9), "parked by mistake", (9, 9)),
    ],
)
def test_each_lie_is_named(
    doctor: Callable[[], object], finding: str, event: tuple[int, int]
) -> None:
    doctor()
    assert audit() == {finding: [(CHANNEL, *event)]}


@pytest.mark.parametrize(
    ("doctor", "finding", "event"),
    [
        (lambda: overhear(2, 9, process=1), "ghosts", ("ephemeral", 2, 9)),
        (lambda: overhear(2, 1, process=2), "twice", ("ephemeral", 2, 1)),
        (
            lambda: store("torture.Rows", {"new": {"writer": 666, "number": 1}}),
            "parked by mistake",
            ("torture.Rows", 666, 1),
        ),
        (
            lambda: store(OrderedRows.postgres_name(), {"$raw": "forged"}),
            "parked by mistake",
            (OrderedRows.postgres_name(), None, None),
        ),
        (
            lambda: go_astray("torture_handled"),
            "in a wrong schema",
            (CHANNEL, 2, 3),
        ),
        (
            lambda: Dirt.objects.create(writer=1, number=2, what="role"),
            "left behind",
            ("role", 1, 2),
        ),
    ],
)
def test_each_intrusion_is_named(
    doctor: Callable[[], object], finding: str, event: tuple[object, ...]
) -> None:
    doctor()
    assert audit() == {finding: [event]}


def test_a_notification_in_a_wrong_schema_is_named() -> None:
    go_astray("pgpubsub_sql_notification")
    assert [*audit()] == ["in a wrong schema"]


def test_what_a_stranger_sends_on_a_plain_channel_may_be_parked() -> None:
    store(CHANNEL, {"$raw": "garbage"})
    assert audit() == {}


def test_who_did_not_wait_is_in_no_order_with_others() -> None:
    free(lambda: swap((1, 3), (2, 3)))
    assert audit() == {}


def test_without_a_key_there_is_no_order() -> None:
    swap((1, 2), (1, 3))
    Handled.objects.update(key=None)
    assert audit() == {}


def test_who_came_or_went_meanwhile_may_have_got_it_once() -> None:
    write(1, 5, is_certain=False)
    assert audit() == {}
    handle(1, 5, 8)
    assert audit() == {}
    handle(1, 5, 9)
    assert audit() == {"twice": [(CHANNEL, 1, 5)]}


def test_what_nobody_has_handled_yet_is_named() -> None:
    Notification.objects.create(channel=CHANNEL, payload={})
    assert [*audit()] == ["left"]


KEEP = kept_by(
    channel="%s",
    subscription="%s",
    payload="jsonb_build_object('writer', 1, 'number', 2)",
    outcome="%s",
)


@pytest.mark.parametrize(
    ("subscription", "channel"), [("", "tests.Shared"), ("mail", "tests.Shared (mail)")]
)
def test_another_history_than_what_was_handled_is_named(subscription: str, channel: str) -> None:
    difference = {"another history": [(channel, 1, 2)]}
    Handled.objects.filter(writer=1, number=2).update(channel=channel)
    Written.objects.filter(writer=1, number=2).update(channel=channel)
    assert audit() == difference
    sql(KEEP, "tests.Shared", subscription, "discarded")
    assert audit() == difference
    sql(KEEP, "tests.Shared", subscription, "handled")
    assert audit() == {}
    sql(KEEP, "tests.Shared", subscription, "handled")
    assert audit() == difference
