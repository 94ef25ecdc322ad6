"""Where a receiver stands, and whether the stream still continues there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpubsub_sql.errors import StreamBroken
from pgpubsub_sql.relay.consumer import ConsumerGone, Incoming
from pgpubsub_sql.relay.inbox import inbox_id
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.position import Continuity, StreamPosition, identity

STREAM = Stream(origin="shop", channel="app.Job", generation=1, partition=0)
MADE = "2026-01-31T10:00:00.123456789Z"


def at(sequence: int, message_id: str | None = None) -> Incoming:
    return Incoming(sequence=sequence, message_id=message_id or f"id-{sequence}", payload=b"{}")


def info(first: int, last: int, created: str = MADE) -> dict[str, Any]:
    """Return what the broker says of a stream, if its last message is *first* - 1 of none."""
    state = {"messages": last - first + 1, "first_seq": first, "last_seq": last}
    return {"created": created, "state": state}


def standing(sequence: int) -> StreamPosition:
    message_id = f"id-{sequence}" if sequence else None
    return StreamPosition(created=MADE, sequence=sequence, message_id=message_id)


def continuity(sequence: int, *, is_held: bool = False) -> Continuity:
    return Continuity(STREAM, standing(sequence), is_held=is_held)


@pytest.mark.parametrize(
    ("sequence", "state", "is_held"),
    [
        (0, info(1, 0), False),  # a new stream
        (0, info(1, 9), False),
        (7, info(1, 7), True),
        (7, info(7, 9), True),
        (7, info(8, 9), False),  # the last one received has expired
        (7, info(8, 7), False),  # all have
    ],
)
def test_a_stream_that_goes_on_is_read_on(
    sequence: int, state: dict[str, Any], is_held: bool
) -> None:
    position = standing(sequence)
    position.check(STREAM, state)
    assert position.is_held(state) == is_held
    start = Continuity(STREAM, position, is_held=is_held).start
    assert start == (sequence if is_held else sequence + 1)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (info(1, 9, "2026-02-01T00:00:00Z"), "was made anew at 2026-02-01"),
        (info(1, 6), "ends at 6, but 7 was received"),
        (info(9, 12), "begins at 9, but only 7 was received: 8 and those before have expired"),
        (info(13, 12), "begins at 13, but only 7"),
    ],
)
def test_a_stream_that_does_not_go_on_is_told_apart(state: dict[str, Any], said: str) -> None:
    with pytest.raises(StreamBroken, match=said) as caught:
        standing(7).check(STREAM, state)
    assert "relay --accept 'pgpubsub+shop+app=2EJob+1+0'" in str(caught.value)


def test_another_message_at_the_position_means_a_rollback() -> None:
    """The broker's store was put back and filled again: no sequence shows it."""
    with pytest.raises(StreamBroken, match=r"has the message other at 7, where id-7 was received"):
        continuity(7, is_held=True).next([at(7, "other"), at(8)])


def test_the_message_at_the_position_is_known_by_its_id() -> None:
    one = continuity(7, is_held=True)
    assert one.next([at(7), at(8)]) == [at(8)]
    assert one.next([at(9)]) == [at(9)]


def test_a_consumer_that_begins_too_late_is_given_up() -> None:
    with pytest.raises(ConsumerGone, match="it began at 9, not at 7"):
        continuity(7, is_held=True).next([at(9)])


def test_a_consumer_that_jumps_is_given_up_after_what_is_whole() -> None:
    """nats-py reconnected in silence, and went on with 1001 after 625."""
    one = continuity(0)
    assert one.next([at(1), at(2)]) == [at(1), at(2)]
    assert not one.skipped
    assert one.next([at(3), at(1001)]) == [at(3)]
    assert one.skipped == "it went on with 1001 after 3"


def test_a_consumer_that_rewinds_repeats_nothing() -> None:
    one = continuity(0)
    assert one.next([at(1), at(2), at(3)]) == [at(1), at(2), at(3)]
    assert one.next([at(1), at(2)]) == []
    assert one.next([at(3), at(4), at(2), at(5)]) == [at(4), at(5)]


@given(st.lists(st.lists(st.integers(1, 30), min_size=1), max_size=20))
def test_whatever_comes_nothing_is_skipped_repeated_or_out_of_order(
    batches: list[list[int]],
) -> None:
    taken: list[int] = []
    one = continuity(0)
    for batch in batches:
        taken += [message.sequence for message in one.next([at(number) for number in batch])]
        if one.skipped:
            one = continuity(len(taken))
    assert taken == list(range(1, len(taken) + 1))


def test_the_position_moves_to_the_last_message() -> None:
    assert standing(7).after([at(8), at(9)]) == standing(9)


@pytest.mark.parametrize("strange", ["x" * 201, "new\nline", "ü", "\udcff"])
def test_an_id_that_cannot_be_kept_is_kept_as_its_digest(strange: str) -> None:
    found = identity(at(1, strange))
    assert found is not None
    assert found.startswith("sha256:")
    assert found != identity(at(1, strange + "!"))
    assert identity(at(1, "order-1")) == "order-1"


def test_a_message_is_known_by_its_origin_channel_and_id() -> None:
    """A program may number its messages, as another does."""
    others = [
        Stream(origin="crm", channel="app.Job", generation=1, partition=0),
        Stream(origin="shop", channel="app.Step", generation=1, partition=0),
    ]
    again = Stream(origin="shop", channel="app.Job", generation=2, partition=3)
    seven = "01936c1a-7e9b-7b1e-8c55-0123456789ab"
    for message_id in ("1", seven):
        known = inbox_id(STREAM, message_id)
        assert inbox_id(again, message_id) == known
        assert known not in [inbox_id(other, message_id) for other in others]
        assert known != inbox_id(STREAM, message_id[:-1] + "c")
    assert inbox_id(STREAM, seven).startswith("01936c1a7e9b")
    assert inbox_id(STREAM, seven.upper()).startswith("01936c1a7e9b")
    assert not inbox_id(STREAM, seven.replace("-7", "-4")).startswith("01936c1a7e9b")
