"""E004 to E007, E013, E016 and W011: whether listeners fit their channels."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import pgpubsub_sql
from pgpubsub_sql.listeners import registry
from tests.checks.support import Fields, declare, found, report, trigger_channel, vars_of

pytestmark = pytest.mark.usefixtures("blank")


def test_e004_reports_a_channel_that_is_not_declared() -> None:
    declare(pgpubsub_sql.Channel, "Sale")
    pgpubsub_sql.listener("blog.Sal")(sold := lambda: None)
    message = report("E004")
    assert f"{__name__}.{sold.__qualname__} listens to a channel that is not declared. " in message
    assert "Did you mean 'blog.Sale'?" in message


def test_e004_accepts_a_channel_declared_after_its_listener() -> None:
    """P25"""
    pgpubsub_sql.listener("blog.Sale")(lambda: None)
    declare(pgpubsub_sql.Channel, "Sale")
    assert found() == []


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda amount: None,
            "the channel has no field 'amount', and the parameter has no default",
        ),
        (lambda number, *, amount: None, "no field 'amount'"),
        (lambda number, /: None, "'number' is positional-only, but fields are passed by name"),
        (lambda self, number: None, "no field 'self'"),
        (lambda old, number: None, "no field 'old'"),
        (dict, "its signature cannot be read"),
    ],
)
def test_e005_reports_a_listener_that_cannot_be_called(function: Any, said: str) -> None:
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))
    pgpubsub_sql.listener(channel)(function)
    message = report("E005")
    assert function.__qualname__ in message
    assert "cannot be called by example.blog.channels.Sale: " in message
    assert said in message
    assert "The channel passes number, text, context, notification." in message


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda number: None,
        lambda text, *, number: None,
        lambda amount=1, *rest: None,
        lambda **everything: None,
        lambda context, notification, **everything: None,
    ],
)
def test_e005_accepts_a_listener_that_can_be_called(function: Any) -> None:
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))
    pgpubsub_sql.listener(channel)(function)
    assert found() == []


def test_e005_knows_that_rows_pass_old_and_new() -> None:
    channel = trigger_channel()
    pgpubsub_sql.post_insert_listener(channel)(lambda old, new, context, notification: None)
    assert found() == []
    pgpubsub_sql.post_insert_listener(channel)(lambda row: None)
    assert "The channel passes old, new, context, notification." in report("E005")


def test_e005_is_silent_if_the_fields_are_unknown() -> None:
    class Forgotten(pgpubsub_sql.Channel):
        number: int

    pgpubsub_sql.listener(Forgotten)(lambda number: None)
    assert "Forgotten" in report("E001")


def test_e005_reads_the_signature_of_a_coroutine() -> None:
    """P25: a coroutine and a function behind functools.wraps keep their parameters."""
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))

    async def handle(number: int, amount: int) -> None: ...

    pgpubsub_sql.listener(channel)(handle)
    assert "no field 'amount'" in report("E005")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: None, "takes no list of messages as its first argument"),
        (lambda *, messages: None, "takes no list of messages as its first argument"),
        (lambda messages, number: None, "nothing is passed as 'number'"),
        (lambda messages, *, context: None, "nothing is passed as 'context'"),
        (lambda number, text, /: None, "'text' is positional-only"),
    ],
)
def test_e005_reports_a_batch_listener_that_cannot_be_called(function: Any, said: str) -> None:
    channel = dataclass(
        declare(pgpubsub_sql.Channel, "Sale", lock_notifications=True, **vars_of(Fields))
    )
    pgpubsub_sql.batch_listener(channel)(function)
    message = report("E005")
    assert said in message
    assert "The channel passes a list, contexts, notifications." in message


@pytest.mark.parametrize(
    "function",
    [
        lambda messages: None,
        lambda *messages: None,
        lambda messages, /: None,
        lambda anything, notifications, contexts: None,
        lambda messages, *, notifications, amount=1, **rest: None,
    ],
)
def test_e005_accepts_a_batch_listener_that_can_be_called(function: Any) -> None:
    channel = dataclass(
        declare(pgpubsub_sql.Channel, "Sale", lock_notifications=True, **vars_of(Fields))
    )
    pgpubsub_sql.batch_listener(channel)(function)
    assert found() == []


TWICE = """
import pgpubsub_sql
@pgpubsub_sql.listener("shop.Sale")
def sold(): return 1
@pgpubsub_sql.listener("shop.Sale")
def {}(): return 2
"""

SALE = "import pgpubsub_sql\nclass Sale(pgpubsub_sql.Channel): pass\n"


def test_e006_reports_two_functions_with_one_path(install_app: Callable[..., None]) -> None:
    """P25"""
    install_app("shop", channels=SALE, listeners=TWICE.format("sold"))
    message = report("E006")
    assert "Two different functions listen under the path shop.listeners.sold." in message
    assert "Rename one of them" in message


def test_e006_accepts_two_functions_with_two_paths(install_app: Callable[..., None]) -> None:
    install_app("shop", channels=SALE, listeners=TWICE.format("sold_too"))
    assert found() == []


def test_e007_reports_row_events_of_a_channel_without_rows() -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale")
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    message = report("E007")
    assert "subscribes to row events of example.blog.channels.Sale, which has no rows" in message
    assert "TriggerChannel" in message


def test_e007_accepts_a_plain_listener_of_a_trigger_channel() -> None:
    """Its trigger may be SQL of the user's own, or installed for another listener."""
    pgpubsub_sql.listener(trigger_channel())(lambda new: None)
    assert found() == []


@pytest.mark.parametrize("other", [pgpubsub_sql.listener, pgpubsub_sql.batch_listener])
def test_e013_reports_a_batch_listener_that_is_not_alone(other: Any) -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale", lock_notifications=True)
    pgpubsub_sql.batch_listener(channel)(lambda messages: None)
    other(channel)(lambda messages=(): None)
    assert "A batch listener has to be the only one" in report("E013")


def test_e013_reports_one_function_that_is_both() -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale", lock_notifications=True)

    def both(messages: Any = ()) -> None: ...

    pgpubsub_sql.listener(channel)(pgpubsub_sql.batch_listener(channel)(both))
    assert "A batch listener has to be the only one" in report("E013")


def test_e013_reports_a_batch_listener_of_an_ephemeral_channel() -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale")
    pgpubsub_sql.batch_listener(channel)(lambda messages: None)
    assert "which is ephemeral" in report("E013")


def test_a_batch_listener_of_rows_says_which() -> None:
    with pytest.raises(TypeError, match=r"batch_listener\(Watch\) needs the events of rows"):
        pgpubsub_sql.batch_listener(trigger_channel())
    with pytest.raises(ValueError, match="There is no event 'inserted'"):
        pgpubsub_sql.batch_listener(trigger_channel(), events=("inserted",))


def test_stacked_batch_decorators_are_one_listener() -> None:
    channel = trigger_channel(lock_notifications=True)

    def index(changes: Any) -> None: ...

    insert = pgpubsub_sql.batch_listener(channel, events=("insert",))
    delete = pgpubsub_sql.batch_listener(channel, events="delete")
    insert(delete(index))
    assert found() == []
    (one,) = registry.listeners_of(channel)
    assert one.timed_events == {"after_insert", "after_delete"}


def start(**options: Any) -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale", **options)
    pgpubsub_sql.listener(channel, start="history")(lambda: None)


def test_e016_reports_the_history_of_an_ephemeral_channel() -> None:
    start()
    assert 'of example.blog.channels.Sale (start="history"), which is ephemeral' in report("E016")


def test_w011_reports_a_history_that_nobody_keeps() -> None:
    start(lock_notifications=True)
    assert "which keeps none: it gets only messages that" in report("W011")


def test_w011_accepts_a_history_that_is_kept() -> None:
    start(lock_notifications=True, keep=datetime.timedelta(days=7))
    assert found() == []
