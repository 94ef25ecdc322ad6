"""What type checkers must accept, and on the marked lines what they must not.

mypy (``warn_unused_ignores``) and pyright (``reportUnnecessaryTypeIgnoreComment``) complain of a mark
where they see nothing wrong. Nothing here is executed.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_type

from django.contrib.auth.models import User

import pgpubsub_sql
from pgpubsub_sql import (
    Change,
    PartialFailure,
    anotify,
    batch_listener,
    listener,
    notify,
    notify_many,
    post_insert_listener,
)


@dataclass
class Reads(pgpubsub_sql.Channel):
    model_id: int
    date: datetime.date
    tags: list[str] = field(default_factory=list)
    lock_notifications = True


@dataclass
class Users(pgpubsub_sql.TriggerChannel):
    model = "auth.User"
    lock_notifications = True
    level = "row"


TODAY = datetime.date(2026, 1, 31)
HOUR = datetime.timedelta(hours=1)

# Fields of a channel

notify(Reads, model_id=1, date=TODAY)
notify(Reads, model_id=1, date=TODAY, tags=["a"])
notify(Reads, model_id="1", date=TODAY)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
notify(Reads, model_id=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
notify(Reads, model_id=1, date=TODAY, tag="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
notify("blog.Reads", model_id=1, anything="goes")
notify(int, x=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

# Options of an instance

notify(Reads(1, TODAY), delay=HOUR, using="default")
notify(Reads(1, TODAY), delay=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
notify(Reads(1, TODAY), model_id=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
notify_many([Reads(1, TODAY)], using="default")
notify_many([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def send() -> None:
    await anotify(Reads, model_id=1, date=TODAY)
    await anotify(Reads, model_id="1", date=TODAY)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


# Listeners keep their type


@listener(Reads)
def count(model_id: int, date: datetime.date) -> int:
    return model_id


assert_type(count(1, TODAY), int)
count("1", TODAY)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@post_insert_listener(Users)
async def welcome(new: object) -> None: ...


@listener("blog.Reads")
def by_name(**fields: object) -> None: ...


@listener(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def of_no_channel() -> None: ...


@pgpubsub_sql.trigger_listener(Users, events=("insert",), when="later")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def at_no_time(new: object) -> None: ...


# Batch listeners get lists


@batch_listener(Reads)
def count_all(messages: list[Reads]) -> int:
    return len(messages)


assert_type(count_all([Reads(1, TODAY)]), int)


@batch_listener(Reads)
async def count_later(messages: Sequence[Reads], notifications: list[object]) -> None: ...


@batch_listener(Users, events=("insert",))
def welcome_all(changes: list[Change[User]], contexts: list[object]) -> None:
    for one in changes:
        assert_type(one.new, User | None)


@batch_listener("blog.Reads")
def count_by_name(messages: list[Reads]) -> None: ...


@batch_listener(Reads)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def one_at_a_time(message: Reads) -> None: ...


@batch_listener(Users)  # type: ignore[type-var, arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
def of_no_event(changes: list[Change[User]]) -> None: ...


PartialFailure([(Reads(1, TODAY), ValueError())])
PartialFailure([Reads(1, TODAY)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


@dataclass
class Wrong(pgpubsub_sql.Channel):
    x: int
    lock_notifications = "yes"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
