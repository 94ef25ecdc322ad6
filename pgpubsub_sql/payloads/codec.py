"""The codec of one channel."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec
from msgspec import inspect

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.payloads.definitions import (
    FieldInfo,
    enum_schema,
    field_info,
    problems,
    struct_of,
    travelling,
)
from pgpubsub_sql.payloads.examples import example
from pgpubsub_sql.payloads.sending import arrives, encoder, refuse_unstorable
from pgpubsub_sql.payloads.spellings import respell, verbatim
from pgpubsub_sql.sql import holds_nul

_MISFITS = (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError, RecursionError)
_SUSPECT = ("\\u0000", 'Infinity"', 'NaN"', 'inf":')  # all that equality alone lets through


class Codec:
    """Encodes and decodes the fields of one channel.

    ::

        codec = Codec(PostReads, "blog.PostReads")
        codec.encode({"model_id": 1, "date": datetime.date(2026, 1, 31)})
        codec.decode('{"model_id": 1, "date": "2026-01-31"}')

    Fields that the class takes when it is called travel; ``field(init=False)`` does not. A class
    with :func:`problems` cannot be encoded: creating its codec raises :class:`PayloadError`.
    """

    fields: Mapping[str, FieldInfo]

    def __init__(self, cls: type, name: str) -> None:
        if found := problems(cls, name):
            raise PayloadError(" ".join(found))
        hints = typing.get_type_hints(cls, include_extras=True)
        declared = travelling(cls)
        self._name = name
        self._struct = struct_of(cls, declared, hints)
        self._strict = msgspec.json.Decoder(self._struct)
        self._lax = msgspec.json.Decoder(self._struct, strict=False)
        self._kind = inspect.type_info(self._struct)
        self.fields = MappingProxyType({f.name: field_info(f, hints) for f in declared})
        self._names = frozenset(self.fields)
        self._required = frozenset(f.name for f in self.fields.values() if f.required)

    def encode(self, values: Mapping[str, Any]) -> str:
        """Return the JSON object of all fields: *values*, and defaults for what is left out.

        A value of another type is taken where the declared type makes the same of it (a list for
        a set, ``"2026-01-31"`` for a date). Whatever would arrive changed raises PayloadError.
        """
        self._check_names(values)
        message = self._struct(**values)
        text = self._faithful(message)
        if text is None:
            for field in self.fields.values():
                self._check(field, getattr(message, field.name))
            text = encoder.encode(message).decode()
        return text

    def decode(self, raw: str | bytes) -> dict[str, Any]:
        """Return typed keyword arguments from a JSON object.

        Unknown fields and keys that start with ``$`` are ignored. PostgreSQL's spellings and the
        predecessor's envelope ``{"kwargs": {…}}`` are understood. Raises PayloadError only.
        """
        text = ""
        try:
            text = raw if isinstance(raw, str) else raw.decode()
            return msgspec.structs.asdict(self._read(text))
        except Exception as error:  # a field's own __post_init__ may raise anything
            words = f"{self._name}: {brief(error)}. {_hint(text)}{self._expected()}"
            raise PayloadError(words) from error

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload, for people who send it with SQL."""
        return {"title": self._name, **msgspec.json.schema(self._struct, schema_hook=enum_schema)}

    def example(self) -> dict[str, Any]:
        """Return a payload that could be sent, with the fields that must be there."""
        return cast(dict[str, Any], example(self._kind))

    def _faithful(self, message: msgspec.Struct) -> str | None:
        """Return *message* as JSON if it surely arrives as it is."""
        try:
            text = encoder.encode(message).decode()
            if any([mark in text for mark in _SUSPECT]):  # noqa: C419 - a generator costs more
                return None
            return text if self._strict.decode(text) == message else None
        except _MISFITS:
            return None  # encode() goes on field by field, to name the one that does not fit

    def _check_names(self, values: Mapping[str, Any]) -> None:
        for name in sorted(values.keys() - self._names):
            close = difflib.get_close_matches(name, self.fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else self._expected()
            raise PayloadError(f"{self._name} has no field {name!r}: {hint}")
        if missing := self._required - values.keys():
            listed = ", ".join(repr(name) for name in self.fields if name in missing)
            raise PayloadError(f"{self._name}: missing {listed}. {self._expected()}")

    def _check(self, field: FieldInfo, value: Any) -> None:
        """Raise PayloadError unless *value* arrives as its declared type understands it."""
        try:
            text = encoder.encode(value).decode()
            refuse_unstorable(text, value)
            arrived = msgspec.json.decode(text, type=field.type)
            equal = arrived == value or arrives(msgspec.convert(value, field.type), arrived)
        except _MISFITS as error:
            raise PayloadError(
                f"{self._name}: field {field.name!r}: {brief(error)}. {field}"
            ) from error
        if not equal:
            raise PayloadError(
                f"{self._name}: field {field.name!r} would arrive changed, as "
                f"{brief(repr(arrived))}: declare the exact type, or send plain JSON values. "
                f"{field}"
            )

    def _read(self, text: str) -> msgspec.Struct:
        if holds_nul(text):
            raise ValueError("NUL (\\u0000) is no text for PostgreSQL: remove it")
        if self._required or '"kwargs"' not in text:  # else an envelope looks like all defaults
            try:
                return self._strict.decode(text)
            except msgspec.ValidationError:
                pass  # well formed, but perhaps spelled by PostgreSQL or by the predecessor
        return self._lax.decode(self._respelled(text))

    def _respelled(self, text: str) -> bytes:
        """Return the JSON *text* without envelope and in msgspec's spellings; numbers verbatim."""
        tree = json.loads(text, parse_int=verbatim, parse_float=verbatim, parse_constant=verbatim)
        if isinstance(tree, dict) and "kwargs" not in self.fields:
            own = [key for key in tree if not key.startswith("$")]
            tree = tree["kwargs"] if own == ["kwargs"] else tree
        return msgspec.json.encode(respell(tree, self._kind))

    def _expected(self) -> str:
        return "It takes {" + ", ".join(map(str, self.fields.values())) + "}"


def _hint(text: str) -> str:
    """Return what msgspec's words do not tell of a value that PostgreSQL has and Python has not."""
    is_endless = 'infinity"' in text
    return "No date or time of Python's is infinite: send null. " if is_endless else ""
