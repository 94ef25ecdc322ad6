"""Messages as the codec writes and reads them, and malformed ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec
from tests.payloads import declared as eager
from tests.payloads.declared import Everything
from tests.payloads.support import (
    DAY,
    EVERYTHING,
    READS,
    PostReads,
    codec_of,
    decoded,
    encoded,
)


@pytest.mark.parametrize("channel", [PostReads, eager.PostReads])
def test_a_message_is_a_json_object_of_all_fields(channel: type) -> None:
    """P20: with and without ``from __future__ import annotations``."""
    codec = Codec(channel, "blog.PostReads")
    sent = codec.encode({"model_id": 1, "date": DAY})
    assert sent == '{"model_id":1,"date":"2026-01-31","source":null}'
    assert codec.decode(sent) == {"model_id": 1, "date": DAY, "source": None}


def test_text_is_compact_and_not_escaped() -> None:
    assert encoded(str, "é 🐘") == '{"x":"é 🐘"}'


def test_fields_are_described_in_order() -> None:
    assert [(f.name, f.required) for f in READS.fields.values()] == [
        ("model_id", True),
        ("date", True),
        ("source", False),
    ]
    assert list(map(str, READS.fields.values())) == [
        "model_id: int",
        "date: date",
        "source: str | None (optional)",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        '{"model_id": 1, "date": "2026-01-31"}',
        b'{"model_id": 1, "date": "2026-01-31"}',
        '{"date": "2026-01-31", "model_id": 1, "later_version": {"a": [1]}}',
        '{"$id": 7, "$context": {"user": 1}, "model_id": 1, "date": "2026-01-31"}',
        '{"model_id": 0, "model_id": 1, "date": "2026-01-31"}',
        '{"model_id": "no", "model_id": 1, "date": "2026-01-31"}',
        '{"model_id": "1", "date": "2026-01-31", "unknown": %s}' % ("9" * 5_000),
        '{"kwargs": {"model_id": 1, "date": "2026-01-31"}}',
        '{"kwargs": {"model_id": "1", "date": "2026-01-31"}, "$context": {}}',
    ],
    ids=[
        "text",
        "bytes",
        "unknown field",
        "$",
        "twice",
        "first is bad",
        "huge",
        "envelope",
        "envelope $",
    ],
)
def test_every_shape_of_message_is_read(raw: str | bytes) -> None:
    """P19: what plain SQL, a newer version and the predecessor send."""
    assert READS.decode(raw) == {"model_id": 1, "date": DAY, "source": None}


def test_an_envelope_without_required_fields_is_not_taken_for_defaults() -> None:
    codec = codec_of(int, default=5)
    assert codec.decode('{"kwargs": {"x": 1}}') == {"x": 1}
    assert codec.decode('{"kwargs": {"x": 1}, "x": 2}') == {"x": 2}
    assert codec.decode("{}") == {"x": 5}


def test_a_field_named_kwargs_is_a_field() -> None:
    @dataclass
    class Call:
        kwargs: dict[str, int]

    assert Codec(Call, "c").decode('{"kwargs": {"kwargs": 1}}') == {"kwargs": {"kwargs": 1}}
    assert Codec(Call, "c").decode('{"kwargs": {"kwargs": "1"}}') == {"kwargs": {"kwargs": 1}}


NOT_JSON = ["", " ", "x", "hello world", '{"model_id": 1', '{"model_id": 1} x', "{'model_id': 1}"]
NOT_OBJECTS = ["null", "1", '"text"', "[]", "[1, 2]", "true"]
BROKEN_TEXT = [
    b'{"model_id": 1, "date": "2026-01-31", "source": "\xff"}',
    b'{"model_id": 1, "date": "2026-01-31", "unknown": "\xff"}',
    b"\xef\xbb\xbf{}",
    '{"model_id": 1, "date": "2026-01-31", "source": "\ud800"}',
    '{"model_id": 1, "date": "2026-01-31", "source": "\\ud800"}',
    '{"model_id": "1", "date": "2026-01-31", "source": "\\ud800"}',
    '{"model_id": 1, "date": "2026-01-31", "source": "\x00"}',
    '{"model_id": 1, "date": "2026-01-31", "source": "\\u0000"}',
    '{"model_id": 1, "date": "2026-01-31", "source": "\\\\\\u0000"}',
]
ENDLESS = [
    "[" * 100_000,
    '{"model_id":' + "[" * 100_000,
    '{"model_id": 1, "date": "2026-01-31", "unknown":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    '{"model_id": ' + "9" * 5_000 + ', "date": "2026-01-31"}',
    '{"model_id": "1", "unknown": 1e999999999999999999999, "date": "x"}',
    '{"model_id": NaN, "date": "2026-01-31"}',
    '{"model_id": "1", "date": "2026-01-31", "unknown": NaN}',
    '{"kwargs": {"kwargs": {"model_id": 1, "date": "2026-01-31"}}}',
    '{"kwargs": null}',
    '{"kwargs": [1]}',
    "{}",
]


@pytest.mark.parametrize("raw", NOT_JSON + NOT_OBJECTS + BROKEN_TEXT + ENDLESS)
def test_malformed_messages_raise_payload_errors_with_the_expected_fields(raw: str | bytes) -> None:
    """P19: nothing that anybody can send raises anything else."""
    with pytest.raises(PayloadError) as caught:
        READS.decode(raw)
    assert str(caught.value).startswith("blog.PostReads: ")
    assert str(caught.value).endswith(
        "It takes {model_id: int, date: date, source: str | None (optional)}"
    )


def test_errors_quote_little_of_a_huge_message() -> None:
    with pytest.raises(PayloadError, match="Invalid enum value 'x") as caught:
        decoded(Literal["a"], json.dumps("x" * 1_000_000))
    assert len(str(caught.value)) < 1000
    assert "… (1000032 characters) …" in str(caught.value)
    assert "at `$.x`. It takes {x: " in str(caught.value)


def test_an_escaped_backslash_before_u0000_is_not_nul() -> None:
    assert decoded(str, r'"\\u0000"') == r"\u0000"
    assert encoded(str, r"\u0000") == r'{"x":"\\u0000"}'


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text(alphabet='{}[]",:0123456789eE+-.ntf\\u$ ')))
def test_noise_raises_nothing_but_payload_error(raw: str | bytes) -> None:
    """P19."""
    with pytest.raises(PayloadError):
        READS.decode(raw)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(Everything.__dataclass_fields__)), JSON_VALUES))
def test_any_json_raises_nothing_but_payload_error(message: dict[str, Any]) -> None:
    """P19."""
    for raw in (json.dumps(message), json.dumps({"kwargs": message})):
        with pytest.raises(PayloadError, match=r"^blog\.Everything: "):
            EVERYTHING.decode(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('{"date": "2026-01-31"}', "missing required field `model_id`"),
        ('{"model_id": "abc", "date": "2026-01-31"}', r"Expected `int`, got `str`.*\$\.model_id"),
        ('{"model_id": null, "date": "2026-01-31"}', r"Expected `int`, got `null`.*\$\.model_id"),
        ('{"model_id": 1.5, "date": "2026-01-31"}', r"Expected `int`, got `float`.*\$\.model_id"),
        ('{"model_id": "1", "date": "infinity"}', r"Invalid .* date.*\$\.date"),
        ('{"model_id": 1, "date": "2026-01-31", "source": 5}', r"Expected `str .*\$\.source"),
        ('{"kwargs": {"model_id": "abc", "date": "2026-01-31"}}', r"Expected `int`.*\$\.model_id"),
    ],
)
def test_errors_name_the_field(raw: str, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        READS.decode(raw)


def test_errors_of_a_nested_dataclass_are_payload_errors() -> None:
    with pytest.raises(PayloadError, match=r"^blog\.One: division by zero"):
        decoded(Ratio, '{"count": 0}')


@dataclass
class Ratio:
    count: int

    def __post_init__(self) -> None:
        self.share = 1 / self.count


@dataclass
class Shouting:
    text: str
    louder: bool = False

    def __post_init__(self) -> None:
        self.text = self.text.upper() + "!" * self.louder


def test_post_init_runs_when_a_message_is_sent_and_when_it_is_received() -> None:
    """M8: it was silently ignored."""
    codec = Codec(Shouting, "blog.Shouting")
    assert codec.initialized({"text": "a", "louder": True}) == {"text": "A!", "louder": True}
    assert codec.decode('{"text": "a", "louder": true}') == {"text": "A!", "louder": True}
    with pytest.raises(PayloadError, match="no field 'txt'"):
        codec.initialized({"txt": "a"})


def test_what_post_init_raises_is_a_payload_error() -> None:
    with pytest.raises(PayloadError, match=r"^blog\.Ratio: division by zero"):
        Codec(Ratio, "blog.Ratio").decode('{"count": 0}')
