"""Whole messages, as workers decode them: fields and context."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from pgpubsub_sql import Channel
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.worker.decoding import decode_message
from pgpubsub_sql.worker.outcomes import Undecodable
from tests.registries import blank  # noqa: F401 - a fixture


@dataclass
class Point:
    x: int

    def __post_init__(self) -> None:
        assert self.x >= 0, "left of the origin"


@pytest.fixture
def channel(blank: None) -> type[Channel]:  # noqa: F811
    @dataclass
    class Drawn(Channel):
        number: int
        text: str = "none"
        point: Point | None = None
        tags: set[Any] | None = None

    return Drawn


READ: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ('{"number": 1}', {"number": 1}, {}),
    ('{"number": 1, "$sig": "a", "$id": 2, "$schema": "s"}', {"number": 1}, {}),
    ('{"number": 1, "$context": {"user": 7}}', {"number": 1}, {"user": 7}),
    (r'{"number": 1, "\u0024context": {"user": 7}}', {"number": 1}, {"user": 7}),
    ('{"number": 1, "$context": [1]}', {"number": 1}, {}),
    ('{"number": 1, "text": "$context"}', {"number": 1, "text": "$context"}, {}),
    ('{"number": 1, "text": "$5"}', {"number": 1, "text": "$5"}, {}),
    (r'{"number": 1, "text": "a\nb\\u0000"}', {"number": 1, "text": "a\nb\\u0000"}, {}),
    ('{"number": "1"}', {"number": 1}, {}),
    ('{"kwargs": {"number": 1}}', {"number": 1}, {}),
    ('{"number": 1, "point": {"x": 2}, "tags": ["a"]}', {"point": Point(2), "tags": {"a"}}, {}),
]
REFUSED = [
    '{"number": "one"}',
    '{"text": "a"}',
    "[1]",
    '{"number": 1',
    r'{"number": 1, "text": "\u0000"}',
    '{"number": 1, "text": "\ud800"}',
    '{"number": 1, "point": {"x": -1}}',
    '{"number": 1, "tags": [[1]]}',
]


@pytest.mark.parametrize(("payload", "fields", "context"), READ)
def test_fields_and_context_are_read(
    channel: type[Channel], payload: str, fields: dict[str, Any], context: dict[str, Any]
) -> None:
    found = decode_message(channel, payload, using="default")
    assert found.context == context
    assert found.fields == {"number": 1, "text": "none", "point": None, "tags": None} | fields
    assert found.timed_event == ""


@pytest.mark.parametrize("payload", REFUSED)
def test_what_does_not_fit_is_refused_by_the_name_of_the_channel(
    channel: type[Channel], payload: str
) -> None:
    """Whatever a class of the project raises, or the parser."""
    with pytest.raises(PayloadError, match="Drawn: "):
        decode_message(channel, payload, using="default")


def test_a_message_that_is_stored_as_text_is_refused_for_good(channel: type[Channel]) -> None:
    raw = json.dumps({"$raw": '{"number": "one"}'})
    with pytest.raises(Undecodable, match="Drawn: "):
        decode_message(channel, raw, using="default")


def test_nobody_shares_the_context_of_a_message(channel: type[Channel]) -> None:
    first, second = (decode_message(channel, '{"number": 1}', using="default") for _ in range(2))
    assert first.context is not second.context
