"""Decoding: from the payload of a message to the arguments of its listeners."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args

import msgspec

from pgpubsub_sql import conf
from pgpubsub_sql.channels import BaseChannel, Channel, TriggerChannel, codec, model_of
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.listeners import field_names
from pgpubsub_sql.rows import Change, Operation, Timing, Unbuildable, change_decoder
from pgpubsub_sql.worker.outcomes import Undecodable


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """The reserved keys of a payload, which begin with a dollar sign."""

    schema: Any = msgspec.field(name="$schema", default=None)
    """The schema whose function sent the message."""
    ref: Any = msgspec.field(name="$ref", default=None)
    """Id of the long payload, which does not fit into a NOTIFY."""
    context: Any = msgspec.field(name="$context", default=None)
    """The notification context of the sender."""
    raw: Any = msgspec.field(name="$raw", default=None)
    """The text of a raw NOTIFY that could not be stored as JSON."""


_ROWS = (
    'It takes what a trigger sends: {"op": "INSERT", "old": null, "new": {…}}, '
    "each row as to_jsonb() writes it"
)
_TIMED_EVENTS = {
    (when, op): f"{when}_{op}".lower() for when in get_args(Timing) for op in get_args(Operation)
}
_decoder = msgspec.json.Decoder(Headers)

Decoded = TypeVar("Decoded")

_ENVELOPE = ("$sig", "$id", "$schema")


class DecodedMessage(msgspec.Struct, frozen=True):
    """A decoded message."""

    timed_event: str
    """Such as ``after_insert``; empty on channels without a trigger."""
    fields: Mapping[str, Any]
    """The channel's fields, as Python values."""
    context: Mapping[str, Any]
    """The notification context of the sender."""


class DecodedInstance(msgspec.Struct, frozen=True):
    """A decoded message as one object, which batch listeners get."""

    timed_event: str
    """Such as ``after_insert``; empty on channels without a trigger."""
    value: Any
    """An instance of the channel or, for rows, a :class:`Change`."""
    context: Mapping[str, Any]
    """The notification context of the sender."""


def decode_headers(payload: str) -> Headers:
    """Return the reserved keys of *payload*, or none of anything that is not a JSON object.

    Raises :class:`PayloadError` if *payload* seems to have some, and they cannot be read.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        if '"$' not in payload:
            return Headers()  # decode_message() says what is wrong with it
        raise PayloadError(f"The payload is not a JSON object: {brief(error)}.") from error


def without_envelope(payload: str) -> str:
    """Return *payload* without the keys that our function adds that sends ephemeral messages."""
    if '"$' not in payload:
        return payload
    try:
        found: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(found, dict):
        return payload
    return json.dumps({key: value for key, value in found.items() if key not in _ENVELOPE})


def decode_message(channel: type[BaseChannel], payload: str, *, using: str) -> DecodedMessage:
    """Return *payload* as the listeners of *channel* get it.

    Raises :class:`PayloadError`, naming the channel, if *payload* does not fit it.
    """
    return message_decoder(channel, using=using)(payload)


def message_decoder(channel: type[BaseChannel], *, using: str) -> Callable[[str], DecodedMessage]:
    """Return what does the same for any payload of *channel*, prepared once."""
    if issubclass(channel, TriggerChannel):
        return _refusing_text(channel, _row_reader(channel, using), using)
    declared = cast(type[Channel], channel)
    return _quick_field_reader(declared, _refusing_text(channel, _field_reader(declared), using))


def instance_decoder(channel: type[BaseChannel], *, using: str) -> Callable[[str], DecodedInstance]:
    """Return what decodes any payload of *channel* for a batch listener, prepared once."""
    read = (
        _change_instance_reader(channel, using)
        if issubclass(channel, TriggerChannel)
        else _field_instance_reader(cast(type[Channel], channel))
    )
    return _refusing_text(channel, read, using)


def _refusing_text(
    channel: type[BaseChannel], read: Callable[[str], Decoded], using: str
) -> Callable[[str], Decoded]:
    """Return *read*, which refuses a message that is stored as text."""

    def decode(payload: str) -> Decoded:
        if payload.startswith('{"$raw"'):  # jsonb's spelling; decoding would be slower
            _refuse(channel, str(decode_headers(payload).raw), using=using)
        return read(payload)

    return decode


def message_fields(channel: type[BaseChannel]) -> list[str]:
    """Return the names of the fields that :func:`message_decoder` finds in each message."""
    is_passed = issubclass(channel, TriggerChannel) and conf.is_context_passed_to_listeners()
    return field_names(channel) + ["context"] * is_passed


def _row_reader(channel: type[TriggerChannel], using: str) -> Callable[[str], DecodedMessage]:
    change_of = _change_reader(channel, using)
    is_context_passed = conf.is_context_passed_to_listeners()

    def read(payload: str) -> DecodedMessage:
        change = change_of(payload)
        fields: dict[str, Any] = {"old": change.old, "new": change.new}
        if is_context_passed:
            fields["context"] = change.context
        return DecodedMessage(_TIMED_EVENTS[change.when, change.op], fields, change.context)

    return read


def _change_reader(channel: type[TriggerChannel], using: str) -> Callable[[str], Change[Any]]:
    decode, name = change_decoder(model_of(channel), using), channel.postgres_name()

    def read(payload: str) -> Change[Any]:
        try:
            return decode(payload)
        except Unbuildable as error:
            raise Undecodable(f"{name}: {error}.") from error
        except PayloadError as error:
            raise PayloadError(f"{name}: {error}. {_ROWS}") from error

    return read


def _change_instance_reader(
    channel: type[TriggerChannel], using: str
) -> Callable[[str], DecodedInstance]:
    change_of = _change_reader(channel, using)

    def read(payload: str) -> DecodedInstance:
        change = change_of(payload)
        return DecodedInstance(_TIMED_EVENTS[change.when, change.op], change, change.context)

    return read


def _field_reader(channel: type[Channel]) -> Callable[[str], DecodedMessage]:
    decode = codec(channel).decode

    def read(payload: str) -> DecodedMessage:
        return DecodedMessage("", decode(payload), _context(payload))

    return read


def _quick_field_reader(
    channel: type[Channel], read: Callable[[str], DecodedMessage]
) -> Callable[[str], DecodedMessage]:
    """Return *read*, with a short way for most messages.

    These have no context, no escaped characters, and values as our encoder spells them.
    """
    parse = codec(channel).parser()
    if parse is None:
        return read

    def decode(payload: str) -> DecodedMessage:
        if "\\" not in payload and "$context" not in payload and "$raw" not in payload:
            try:
                return DecodedMessage("", parse(payload), {})
            except Exception:  # noqa: BLE001 - read() knows more spellings, or says what is wrong
                return read(payload)
        return read(payload)

    return decode


def _field_instance_reader(channel: type[Channel]) -> Callable[[str], DecodedInstance]:
    decode = codec(channel).instance

    def read(payload: str) -> DecodedInstance:
        return DecodedInstance("", decode(payload), _context(payload))

    return read


def _context(payload: str) -> Mapping[str, Any]:
    """Return the sender's context."""
    if "$context" not in payload and "\\" not in payload:  # decoding once more would be slower
        return {}
    context = decode_headers(payload).context
    return context if isinstance(context, dict) else {}


def _refuse(channel: type[BaseChannel], text: str, *, using: str) -> None:
    """Raise :class:`Undecodable`, saying what is wrong with a message that is stored as text."""
    try:
        decode_message(channel, text, using=using)
    except PayloadError as error:
        raise Undecodable(str(error)) from error
    raise Undecodable(
        f"{channel.postgres_name()}: It came by NOTIFY, and holds what PostgreSQL's jsonb refuses, "
        "such as \\u0000, or a $ref to a long payload that had expired or never existed. Send it "
        "with pgpubsub_notify(channel, payload), which says at once what is wrong."
    )
