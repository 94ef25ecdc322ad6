"""The codec of one channel."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, cast

import msgspec
from msgspec import inspect

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.payloads.definitions import FieldInfo, define
from pgpubsub_sql.payloads.encoding import arrives, encoder, refuse_unstorable
from pgpubsub_sql.payloads.examples import example
from pgpubsub_sql.payloads.json_schema import schema_of_channel
from pgpubsub_sql.payloads.postgres_text import read_text, verbatim
from pgpubsub_sql.sql import holds_nul

_MISFITS = (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError, RecursionError)
_SUSPECT = ("\\u0000", 'Infinity"', 'NaN"', 'inf":')
"""In JSON that may not arrive unchanged although it decodes to an equal message."""


class Codec:
    """Encodes and decodes the fields of one channel.

    ::

        codec = Codec(PostReads, "blog.PostReads")
        codec.encode({"model_id": 1, "date": datetime.date(2026, 1, 31)})
        codec.decode('{"model_id": 1, "date": "2026-01-31"}')

    The fields that ``__init__()`` takes travel; those with ``field(init=False)`` do not. Creating
    the codec of a class with :func:`definition_problems` raises :class:`PayloadError`.
    """

    def __init__(self, cls: type, name: str) -> None:
        definition = define(cls, name)
        if definition.problems:
            raise PayloadError(" ".join(definition.problems))
        self.fields = definition.fields
        self._name = name
        self._class = cls
        self._is_initialized = hasattr(cls, "__post_init__")
        self._struct = definition.struct
        self._strict = msgspec.json.Decoder(self._struct)
        self._names = frozenset(self.fields)
        self._required = frozenset(f.name for f in self.fields.values() if f.required)

    @cached_property
    def _lax(self) -> msgspec.json.Decoder[msgspec.Struct]:
        return msgspec.json.Decoder(self._struct, strict=False)

    @cached_property
    def _kind(self) -> inspect.Type:
        return inspect.type_info(self._struct)

    def encode(self, values: Mapping[str, Any]) -> str:
        """Return all fields as a JSON object: *values*, and defaults for the rest.

        A value of another type is accepted if the declared type can be made of it without a change
        (a list for a set, ``"2026-01-31"`` for a date). Raises :class:`PayloadError` for a value
        that would arrive changed.
        """
        self.check_names(values)
        message = self._struct(**values)
        text = self._encode_if_faithful(message)
        if text is None:
            for field in self.fields.values():
                self._check(field, getattr(message, field.name))
            text = encoder.encode(message).decode()
        return text

    def decode(self, raw: str | bytes) -> dict[str, Any]:
        """Return the typed fields of a JSON object.

        Ignores unknown fields, and keys that start with ``$``. Understands PostgreSQL's text
        forms, and django-pgpubsub's envelope ``{"kwargs": {…}}``. Raises nothing but
        :class:`PayloadError`.
        """
        make = self._passed_through if self._is_initialized else None
        fields: dict[str, Any] = self._decode(raw, make)
        return fields

    def instance(self, raw: str | bytes) -> Any:
        """Return an instance of the class, with the fields that :meth:`decode` returns."""
        return self._decode(raw, lambda fields: self._class(**fields))

    def parser(self) -> Callable[[str], dict[str, Any]] | None:
        """Return a function that returns the fields of JSON written as :meth:`encode` writes it.

        It may raise any exception for what it cannot read, and must not be given an escaped NUL.
        None if :meth:`decode` does more than that.
        """
        if self._is_initialized or not self._required:
            return None
        decode, asdict = self._strict.decode, msgspec.structs.asdict
        return lambda text: asdict(decode(text))

    def _decode(self, raw: str | bytes, make: Callable[[dict[str, Any]], Any] | None) -> Any:
        """Return what *make* makes of the fields, or else the fields."""
        text = ""
        try:
            text = raw if isinstance(raw, str) else raw.decode()
            fields = msgspec.structs.asdict(self._read(text))
            return make(fields) if make else fields
        except Exception as error:  # a __post_init__ may raise anything
            message = f"{self._name}: {brief(error)}. {_hint(text)}{self._expected()}"
            raise PayloadError(message) from error

    def initialized(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return *values* as ``__post_init__()`` of the channel leaves them, if it has one.

        Raises :class:`PayloadError` for names that do not fit, and what ``__post_init__()`` raises.
        """
        if not self._is_initialized:
            return values
        self.check_names(values)
        return self._passed_through(values)

    def _passed_through(self, values: dict[str, Any]) -> dict[str, Any]:
        instance = self._class(**values)
        return {name: getattr(instance, name) for name in self.fields}

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload, for people who send with SQL."""
        return schema_of_channel(self._name, self._struct)

    def example(self) -> dict[str, Any]:
        """Return a valid payload that has only the required fields."""
        return cast(dict[str, Any], example(self._kind))

    @property
    def struct(self) -> type[msgspec.Struct]:
        """The msgspec equivalent of the channel."""
        return self._struct

    def _encode_if_faithful(self, message: msgspec.Struct) -> str | None:
        """Return *message* as JSON if it certainly arrives unchanged."""
        try:
            text = encoder.encode(message).decode()
            if any([mark in text for mark in _SUSPECT]):  # noqa: C419 - a generator costs more
                return None
            return text if self._strict.decode(text) == message else None
        except _MISFITS:
            return None  # encode() then checks each field, to name the one that does not fit

    def check_names(self, values: Mapping[str, Any]) -> None:
        """Raise :class:`PayloadError` unless *values* has the required fields, and no others."""
        for name in sorted(values.keys() - self._names):
            close = difflib.get_close_matches(name, self.fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else self._expected()
            raise PayloadError(f"{self._name} has no field {name!r}: {hint}")
        if missing := self._required - values.keys():
            listed = ", ".join(repr(name) for name in self.fields if name in missing)
            raise PayloadError(f"{self._name}: missing {listed}. {self._expected()}")

    def _check(self, field: FieldInfo, value: Any) -> None:
        """Raise :class:`PayloadError` if *value* would not arrive as its declared type reads it."""
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
            raise ValueError("it holds a NUL (\\u0000), which PostgreSQL cannot store: remove it")
        if self._required or '"kwargs"' not in text:  # an envelope could pass for all defaults
            try:
                return self._strict.decode(text)
            except msgspec.ValidationError:
                pass  # well formed, but perhaps in the form of PostgreSQL or django-pgpubsub
        return self._lax.decode(self._as_msgspec_reads(text))

    def _as_msgspec_reads(self, text: str) -> bytes:
        """Return the JSON *text* without envelope, values as msgspec reads them."""
        tree = json.loads(text, parse_int=verbatim, parse_float=verbatim, parse_constant=verbatim)
        if isinstance(tree, dict) and "kwargs" not in self.fields:
            own = [key for key in tree if not key.startswith("$")]
            tree = tree["kwargs"] if own == ["kwargs"] else tree
        return msgspec.json.encode(read_text(tree, self._kind))

    def _expected(self) -> str:
        return "It takes {" + ", ".join(map(str, self.fields.values())) + "}"


def _hint(text: str) -> str:
    """Return what to do about a value that Python does not have, if *text* holds one."""
    is_infinite = 'infinity"' in text
    return "Python has no infinite dates and times: send null. " if is_infinite else ""
