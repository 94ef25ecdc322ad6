"""Names on the broker: different things have different names, and every name is legal there."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpubsub_sql.relay.names import Stream, escape, every_subject, parse, partition_of, unescape

TEXTS = st.one_of(
    st.text("ab.=+*> \t\0-_2E/\\", min_size=1),
    st.text("Kanal ünïcode 日本 🐘", min_size=1),
)
NUMBERS = st.integers(0, 10**6)
STREAMS = st.builds(Stream, origin=TEXTS, channel=TEXTS, generation=NUMBERS, partition=NUMBERS)


def test_a_usual_channel_is_readable() -> None:
    stream = Stream(origin="shop", channel="blog.PostReads", generation=1, partition=0)
    assert stream.subject == "pgpubsub.shop.blog=2EPostReads.1.0"
    assert stream.name == "pgpubsub+shop+blog=2EPostReads+1+0"
    assert every_subject("shop", "blog.PostReads") == "pgpubsub.shop.blog=2EPostReads.*.*"


@given(TEXTS)
def test_a_token_can_be_read_back_and_has_no_special_character(text: str) -> None:
    """F29: dots, wildcards and spaces in a channel's name mean something else in a subject."""
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", escape(text))
    assert unescape(escape(text)) == text


@given(STREAMS)
def test_a_name_can_be_read_back(stream: Stream) -> None:
    assert parse(stream.name) == stream
    assert len(stream.subject.split(".")) == 5
    assert not set(stream.name) & set(" \t.*>/\\\0")


@given(STREAMS, STREAMS)
def test_two_streams_never_share_a_name_or_a_subject(one: Stream, other: Stream) -> None:
    assert (one.name == other.name) == (one == other) == (one.subject == other.subject)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ORDERS",
        "pgpubsub+shop+blog=2EPostReads+1",
        "pgpubsub+shop+blog=2EPostReads+1+0+0",
        "other+shop+blog=2EPostReads+1+0",
        "pgpubsub+shop+blog.PostReads+1+0",
        "pgpubsub+shop+blog=2ePostReads+1+0",
        "pgpubsub+shop+=41+1+0",
        "pgpubsub+shop+=FF+1+0",
        "pgpubsub++blog=2EPostReads+1+0",
        "pgpubsub+shop+blog=2EPostReads+01+0",
        "pgpubsub+shop+blog=2EPostReads+1+x",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert parse(name) is None


@given(TEXTS, TEXTS, TEXTS, st.integers(1, 64))
def test_a_key_has_one_partition(key: str, one: str, other: str, partitions: int) -> None:
    found = partition_of(key, one, partitions)
    assert found == partition_of(key, other, partitions)
    assert 0 <= found < partitions


def test_the_partition_of_a_key_never_changes() -> None:
    """A receiver handles a key in order only while all of its publishers agree."""
    assert [partition_of(f'["{key}"]', "", 4) for key in "abcdefgh"] == PARTITIONS


PARTITIONS = [3, 1, 3, 2, 1, 0, 3, 0]


def test_messages_without_a_key_are_spread() -> None:
    counts = Counter(partition_of(None, f"{number:032x}", 4) for number in range(4000))
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 800
