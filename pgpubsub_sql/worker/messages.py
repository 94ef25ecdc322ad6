"""From what arrived to what listeners are called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec

from pgpubsub_sql import conf
from pgpubsub_sql.channels import BaseChannel, Channel, TriggerChannel, codec, model_of
from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows import Unbuildable, decode_change
from pgpubsub_sql.worker.outcomes import Undecodable
from pgpubsub_sql.worker.session import Session


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a message that are ours."""

    schema: Any = msgspec.field(name="$schema", default=None)
    """The schema it was sent from, where our functions sent it."""
    ref: Any = msgspec.field(name="$ref", default=None)
    """Id of the stored payload that did not fit."""
    context: Any = msgspec.field(name="$context", default=None)
    """What travelled beside it."""
    raw: Any = msgspec.field(name="$raw", default=None)
    """The text of what came by NOTIFY and could not be stored as it was."""


_ROWS = (
    'It takes what a trigger sends: {"op": "INSERT", "old": null, "new": {…}}, '
    "each row as to_jsonb() writes it"
)
_LARGEST_ID = 2**63 - 1
_decoder = msgspec.json.Decoder(Envelope)


class Message(NamedTuple):
    """What one message says, decoded."""

    event: str
    """As ``after_insert``; empty on channels that have no rows."""
    fields: Mapping[str, Any]
    """The channel's fields, typed."""
    context: Mapping[str, Any]
    """What travelled beside them."""


def decode_envelope(payload: str) -> Envelope:
    """Return our keys of *payload*; what holds none need not be a JSON object either.

    Raises :class:`PayloadError` if they cannot be read.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        if '"$' not in payload:
            return Envelope()  # decode_message() says what is wrong, and what would be right
        raise PayloadError(f"The payload is not a JSON object: {brief(error)}.") from error


def decode_message(channel: type[BaseChannel], payload: str, *, using: str) -> Message:
    """Return what *payload* says to the listeners of *channel*.

    Raises :class:`PayloadError`, naming the channel, if it does not fit.
    """
    if payload.startswith('{"$raw"'):  # as jsonb spells it; a decoder would cost more
        _refuse(channel, str(decode_envelope(payload).raw), using=using)
    if issubclass(channel, TriggerChannel):
        try:
            change = decode_change(model_of(channel), payload, using=using)
        except Unbuildable as error:
            raise Undecodable(f"{channel.postgres_name()}: {error}.") from error
        except PayloadError as error:
            raise PayloadError(f"{channel.postgres_name()}: {error}. {_ROWS}") from error
        event = f"{change.when}_{change.op}".lower()
        fields: dict[str, Any] = {"old": change.old, "new": change.new}
        if conf.is_context_passed_to_listeners():
            fields["context"] = change.context
        return Message(event=event, fields=fields, context=change.context)
    fields = codec(cast(type[Channel], channel)).decode(payload)
    return Message(event="", fields=fields, context=_context(payload))


def _context(payload: str) -> Mapping[str, Any]:
    """Return what travelled beside the fields."""
    if "$" not in payload and "\\" not in payload:  # to decode the rest again would cost more
        return {}
    context = decode_envelope(payload).context
    return context if isinstance(context, dict) else {}


def long_payload(session: Session, reference: Any) -> str:
    """Return the stored payload that a message refers to.

    Raises :class:`PayloadError` if there is none.
    """
    if type(reference) is not int or not 0 < reference <= _LARGEST_ID:
        raise PayloadError(f"Its $ref {brief(repr(reference))} is not the id of a long payload.")
    rows = session.execute("long_payload", {"id": reference})
    if not rows:
        raise PayloadError(f"Its long payload {reference!r} has expired, or never existed.")
    return str(rows[0][0])


def _refuse(channel: type[BaseChannel], text: str, *, using: str) -> None:
    """Say what is wrong with a message of which only its text could be stored."""
    try:
        decode_message(channel, text, using=using)
    except PayloadError as error:
        raise Undecodable(str(error)) from error
    raise Undecodable(
        f"{channel.postgres_name()}: It came by NOTIFY, and holds what PostgreSQL's jsonb refuses, "
        "such as \\u0000, or a $ref to a long payload that had expired or never existed. Send it "
        "with pgpubsub_notify(channel, payload), which says at once what is wrong."
    )
