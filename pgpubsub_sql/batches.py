"""Batch listeners: what declares them, and what they raise if some of their messages fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from django.db import connections

from pgpubsub_sql.channels import Channel, TriggerChannel
from pgpubsub_sql.django_internals import count_blocks
from pgpubsub_sql.listeners import Callback, Reference, Start, register, timed_events
from pgpubsub_sql.rows import Change

C = TypeVar("C", bound=Channel)
P = ParamSpec("P")
R = TypeVar("R")


@overload
def batch_listener(
    channel: type[TriggerChannel],
    *,
    events: Iterable[str],
    subscription: str = "",
    start: Start | None = None,
) -> Callable[
    [Callable[Concatenate[list[Change[Any]], P], R]],
    Callable[Concatenate[list[Change[Any]], P], R],
]: ...
@overload
def batch_listener(
    channel: type[C], *, subscription: str = "", start: Start | None = None
) -> Callable[[Callable[Concatenate[list[C], P], R]], Callable[Concatenate[list[C], P], R]]: ...
@overload
def batch_listener(
    channel: str, *, events: Iterable[str] = (), subscription: str = "", start: Start | None = None
) -> Callable[[Callback], Callback]: ...
def batch_listener(
    channel: Reference,
    *,
    events: Iterable[str] | None = None,
    subscription: str = "",
    start: Start | None = None,
) -> Any:
    """Call the function with a list of messages of *channel*, as many as were claimed together.

    ::

        @pgpubsub_sql.batch_listener(PostReads)
        def count_reads(messages: list[PostReads]):
            Read.objects.bulk_create(Read(post_id=one.model_id) for one in messages)

    The list holds instances of the channel or, if it is a trigger channel, a :class:`Change` for
    each row. *events* are those of :func:`trigger_listener`, and a trigger channel requires them;
    ``()`` installs no trigger. The function may name ``notifications`` and ``contexts``, which are
    lists of the same length. The channel has to be durable, and the function the only listener of
    its *subscription*, or the only one that names none: see :func:`listener`, also for *start*.

    If it raises, what it wrote is undone, and it is called again with each half of the list, until
    those that fail alone are found. :class:`PartialFailure` names them at once.

    Raises :class:`ChannelNotFound` as :func:`listener` does, :class:`TypeError` if *events* are
    missing, and :class:`ValueError` for an unknown event, an impossible name or *start*.
    """
    if events is None and isinstance(channel, type) and issubclass(channel, TriggerChannel):
        raise TypeError(
            f"batch_listener({channel.__name__}) needs the events of rows that it wants: "
            'events=("insert", "update"), for example. events=() installs no trigger.'
        )
    wanted = timed_events(events or (), "after")
    return register(channel, wanted, subscription=subscription, start=start, is_batch=True)


class PartialFailure(Exception):
    """Raised by a batch listener: these messages of the list have failed, and the others have not.

    ::

        raise pgpubsub_sql.PartialFailure([(message, ValueError("no such post"))])

    *failures* are pairs of a message, which has to be an object of the list itself, and its error.
    What the call wrote stays, so leave nothing there of those that failed. Each of these is retried
    or parked by its own error; that may be :class:`RetryAfter` or :class:`Discard`.

    Raise it outside of ``transaction.atomic()`` blocks. Such a block would undo what the others
    wrote. So if it is made inside of one, the whole call is undone, and made again without those
    that have failed. This also happens if the channel has an ordering key, and one of them is
    followed by another message of its key that has not failed.

    Raises :class:`ValueError` if there are no *failures*, and :class:`TypeError` if these are not
    pairs of a message and an exception.
    """

    def __init__(self, failures: Iterable[tuple[object, BaseException]]) -> None:
        self.failures = [_pair(one) for one in failures]
        """The pairs."""
        if not self.failures:
            raise ValueError("PartialFailure names no message. Raise it only if some have failed.")
        super().__init__(f"{len(self.failures)} messages of the batch failed")
        self._blocks = {
            one.alias: count_blocks(one) for one in connections.all(initialized_only=True)
        }

    def is_inside(self, blocks: int, *, using: str) -> bool:
        """Return whether it was made inside more than so many *blocks* of the alias *using*."""
        return self._blocks.get(using, 0) > blocks


def _pair(one: object) -> tuple[object, BaseException]:
    if isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], BaseException):
        return one
    raise TypeError(
        f"PartialFailure takes pairs of a message and its exception, such as "
        f"[(message, error)], and not {one!r}."
    )
