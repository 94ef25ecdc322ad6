"""Messages of row changes, and malformed ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgpubsub_sql.errors import PayloadError
from tests.rows.models import Everything, Licence
from tests.rows.support import assert_same, decode, new, payload, sent, with_new

pytestmark = pytest.mark.django_db


ROW = {"licence_id": 1, "number": "x"}


@pytest.mark.parametrize(
    ("fields", "op"),
    [
        ({"new": ROW}, "INSERT"),
        ({"old": ROW}, "DELETE"),
        ({"old": ROW, "new": ROW}, "UPDATE"),
        ({"old": None, "new": ROW, "app": "rows", "model": "Licence"}, "INSERT"),
    ],
)
def test_the_operation_is_inferred_if_missing(fields: dict[str, Any], op: str) -> None:
    """The messages of the predecessor name no operation; P22: nor does their model count."""
    change = decode(Licence, json.dumps(fields))
    assert (change.op, change.when, change.context) == (op, "AFTER", {})
    assert (change.old is not None, change.new is not None) == (
        "old" in fields and bool(fields["old"]),
        "new" in fields,
    )


def test_a_message_has_operation_timing_rows_and_context() -> None:
    change = decode(
        Licence, payload(ROW, ROW | {"number": "y"}, context={"a": [1.5]}, **{"$stale": True})
    )
    assert (change.op, change.when, change.context) == ("UPDATE", "AFTER", {"a": [1.5]})
    assert (change.old.number, change.new.number) == ("y", "x")
    assert not change.new._state.adding
    assert change.new._state.db == "default"


def test_truncate_has_no_rows() -> None:
    change = decode(Licence, payload(op="TRUNCATE"))
    assert (change.op, change.old, change.new) == ("TRUNCATE", None, None)


def test_rows_of_an_update_may_come_alone() -> None:
    assert decode(Licence, payload(ROW)).old is None
    assert decode(Licence, payload(old=ROW)).new is None


def test_bytes_are_decoded_like_text() -> None:
    assert new(Licence, payload({**ROW, "number": "☃"}).encode()).number == "☃"


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "null",
        "[]",
        "1",
        "{",
        '{"op": "INSERT"}',
        payload(),
        payload(op="INSERT", old=ROW),
        payload(op="DELETE", new=ROW),
        payload(ROW, op="UPSERT"),
        payload(ROW, when="LATER"),
        payload(ROW, context=[]),
        payload([]),
        payload("x"),
        payload({}),
        payload({"number": "x"}),
        payload({"licence_id": None}),
        payload({"licence_id": "1"}),
        payload({"licence_id": True}),
        payload({"licence_id": 1.5}),
        payload({"licence_id": 1, "number": 5}),
        payload({"licence_id": 1, "number": {}}),
        payload({"licence_id": 1, "number": "a\x00b"}),
        payload({"licence_id": 1, "number": "\\\x00"}),
        payload({"licence_id": 1, "number": "\ud800"}),
        '{"new": {"licence_id": 1, "number": "\ud800"}}',
        b'{"new": {"licence_id": 1, "number": "\xff"}}',
        b"\xff",
        DEEP,
        with_new(DEEP),
        with_new('{"licence_id": 1, "unknown": ' + DEEP + "}"),
        with_new('{"licence_id": 1}, "context": {"x": ' + DEEP + "}"),
        with_new('{"licence_id": ' + "9" * 10_000 + "}"),
        payload(ROW) + "x",
    ],
)
def test_malformed_messages_raise_payload_errors(raw: str | bytes) -> None:
    with pytest.raises(PayloadError, match=r"^rows\.Licence"):
        decode(Licence, raw)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("array", '"x"'),
        ("array", '["x"]'),
        ("array", "[[[[[[[[1]]]]]]]]"),
        ("binary", '"\\\\xzz"'),
        ("binary", "1"),
        ("boolean", "1"),
        ("celsius", "-300"),
        ("date", '"2026-02-30"'),
        ("datetime", '"yesteryear"'),
        ("decimal", '"x"'),
        ("duration", '"one day"'),
        ("duration", '""'),
        ("float", '"1.5"'),
        ("integer_range", "{}"),
        ("integer_range", '"[3,1)"'),
        ("json", '"\ud800"'),
        ("json", DEEP),
        ("json", "9" * 10_000),
        ("point", '"here"'),
        ("time", '"25:00:00"'),
        ("uuid", '"x"'),
    ],
)
def test_errors_name_the_column(column: str, value: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(Everything, with_new(f'{{"id": 1, "{column}": {value}}}'))
    if len(value) < 1000 and "\ud800" not in value:
        assert column in str(caught.value)


def test_an_escaped_backslash_is_not_a_nul() -> None:
    Everything.objects.create(text="\\u0000", json={"\\u0000": "\\\\u0000"})
    assert_same(new(Everything, sent(Everything)), Everything.objects.get())


def test_the_last_of_duplicate_keys_counts_as_in_jsonb() -> None:
    raw = '{"new": {"licence_id": 1, "licence_id": 2}, "op": "DELETE", "op": "INSERT"}'
    assert new(Licence, raw).pk == 2
