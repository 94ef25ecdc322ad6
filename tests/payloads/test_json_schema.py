"""The JSON Schema of messages, judged by a validator, and the TypeScript types made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.payloads import Codec, schema_of_channels, typescript
from tests.payloads import declared as eager
from tests.payloads.support import EVERYTHING, READS, codec_of
from tests.payloads.test_types import ONE_FIELD, PLAIN, VALUES

jsonschema = pytest.importorskip("jsonschema", reason="the group `test` has it")

ALL = jsonschema.Draft202012Validator(
    schema_of_channels({"blog.Everything": EVERYTHING.struct, "blog.PostReads": READS.struct})
)
VALIDATORS = {
    name: jsonschema.Draft202012Validator(codec.schema()) for name, codec in ONE_FIELD.items()
}


def test_the_schemas_are_schemas() -> None:
    for validator in [ALL, *VALIDATORS.values()]:
        jsonschema.Draft202012Validator.check_schema(validator.schema)


@settings(deadline=None, max_examples=50)
@given(st.fixed_dictionaries(VALUES))
def test_what_notify_sends_is_valid(values: dict[str, Any]) -> None:
    ALL.validate({"blog.Everything": json.loads(EVERYTHING.encode(values))})


BAD = [
    *(None, True, -1, 0, 2, 1.5, 3, 10**30, "", "x", "1", "on", "null", [], {}, [1], [[1]]),
    *("2026-01-31", "2026-13-01", "2026-1-1", "0000-01-01", "26-01-31"),
    *("10:00", "10:00:00", "24:00:00", "10:60:00", "10:00:00Z", "10:00:00+25:00"),
    *("2026-01-31T10:00", "2026-01-31T10:00:00", "2026-01-31T10:00:00+05", "2026-01-31T24:00:00Z"),
    *("P", "PT", "P1DT", "P1M", "P1W", "PT1S", "-P1D", "P1.5D", "PT1.S"),
    *("A", "AP8=", "AP8", "A P8=", "NaN", "1.", ".5", "1e5", "1_0", "+1.10", "٣"),
    *("00000000-0000-4000-8000-000000000000", "0000000-0000-4000-8000-0000000000000"),
    *([1, "a"], [1, 2], ["a", 1], [1, "a", 2], {"x": 1}, {"x": "1"}, {"start": {}, "end": {}}),
    *({"type": "circle"}, {"type": "circle", "label": "a"}, {"label": "a"}, {"type": "square"}),
    *({"width": 1}, {"width": 1, "pause": "PT1S"}, {"width": "1", "pause": "PT1S"}, ["turn"]),
    *(["turn", 1.5], ["halt", "x"], ["halt", "PT1S"], {"1": 1}, {"d": 1}, {"2026-01-31": "1"}),
    *({"value": 1, "children": [{}]}, {"item": "x"}, {"item": "PT1S", "others": ["x"]}),
]


def as_javascript(value: Any) -> Any:
    """Return *value* with whole numbers as integers, which a schema does not tell apart."""
    match value:
        case dict():
            return {name: as_javascript(item) for name, item in value.items()}
        case list():
            return [as_javascript(item) for item in value]
        case float():
            return int(value) if value.is_integer() else value
    return value


@pytest.mark.parametrize("name", VALUES)
@settings(deadline=None, max_examples=40)
@given(value=st.sampled_from(BAD) | PLAIN)
def test_what_does_not_decode_is_not_valid(name: str, value: Any) -> None:
    message = {"x": as_javascript(value)}
    if VALIDATORS[name].is_valid(message):
        ONE_FIELD[name].decode(json.dumps(message))


@pytest.mark.parametrize("name", VALUES)
def test_each_bad_value_is_tried_with_each_type(name: str) -> None:
    """Hypothesis samples; these are few."""
    valid = [value for value in BAD if VALIDATORS[name].is_valid({"x": value})]
    for value in valid:
        ONE_FIELD[name].decode(json.dumps({"x": value}))
    assert len(valid) < len(BAD) or not VALIDATORS[name].schema["$defs"]["One"]["properties"]["x"]


@given(st.data())
@settings(deadline=None)
def test_fields_are_required_as_the_channel_declares(data: st.DataObject) -> None:
    values = {"model_id": 1, "date": "2026-01-31", "source": None, "more": [1]}
    optional = {name: st.just(value) for name, value in values.items()}
    given_ = data.draw(st.fixed_dictionaries({}, optional=optional))
    is_valid = ALL.is_valid({"blog.PostReads": given_})
    try:
        READS.decode(json.dumps(given_))
    except PayloadError:
        assert not is_valid
    else:
        assert is_valid


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (msgspec.Meta(gt=1, le=3), [2, 3], [1, 4]),
        (msgspec.Meta(ge=1, lt=3, multiple_of=2), [2], [0, 1, 3]),
    ],
)
def test_bounds_of_numbers_are_told(constraint: Any, good: list[int], bad: list[int]) -> None:
    validator = jsonschema.Draft202012Validator(codec_of(Annotated[int, constraint]).schema())
    assert all(validator.is_valid({"x": number}) for number in good)
    assert not any(validator.is_valid({"x": number}) for number in bad)


@pytest.mark.parametrize("kind", [str, list[int], dict[str, int]])
def test_bounds_of_lengths_are_told(kind: Any) -> None:
    constrained = Annotated[kind, msgspec.Meta(min_length=1, max_length=2)]
    validator = jsonschema.Draft202012Validator(codec_of(constrained).schema())
    values: list[Any] = [{str: "a", list[int]: [1], dict[str, int]: {"a": 1}}[kind] for _ in "a"]
    assert validator.is_valid({"x": values[0]})
    assert not validator.is_valid({"x": type(values[0])()})


def test_classes_of_one_name_are_kept_apart() -> None:
    class Point(NamedTuple):
        x: str

    codec = codec_of(tuple[eager.Point, Point, tuple[()]])
    found = codec.schema()["$defs"]
    assert found["Point"]["type"] == "object"
    assert found["Point2"]["type"] == "array"
    jsonschema.Draft202012Validator(codec.schema()).validate({"x": [{"x": 1}, ["a"], []]})


@dataclass
class Channels:
    """A name that the types have themselves."""

    odd: dict[str, tuple[int, str]] = field(default_factory=dict)


def test_typescript_has_a_type_for_each_class_and_channel() -> None:
    shop = Codec(Channels, "shop.Channels")
    printed = typescript(schema_of_channels({"shop.Channels": shop.struct}))
    assert printed == (
        "export interface Channels2 {\n"
        "  odd?: { [name: string]: [number, string] };\n"
        "}\n"
        "\n"
        "export interface Channels {\n"
        '  "shop.Channels": Channels2;\n'
        "}"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("integer", "number"),
        ("optional", "string | null"),
        ("mode", '"off" | "on" | 3'),
        ("colour", '"red" | "blue"'),
        ("nothing", "null"),
        ("anything", "unknown"),
        ("sequence", "Array<string>"),
        ("pair", "[number, string]"),
        ("move", "Move"),
    ],
)
def test_types_in_typescript(name: str, expected: str) -> None:
    printed = typescript(schema_of_channels({"blog.One": ONE_FIELD[name].struct}))
    (line,) = [line for line in printed.splitlines() if line.startswith("  x: ")]
    assert sorted(line[5:-1].split(" | ")) == sorted(expected.split(" | "))


def test_tuples_with_defaults_in_typescript() -> None:
    printed = typescript(schema_of_channels({"blog.One": ONE_FIELD["move"].struct}))
    assert "export type Move = [number, (string)?, ...unknown[]];" in printed
