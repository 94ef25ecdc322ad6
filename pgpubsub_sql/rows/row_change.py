"""Decoding of a trigger's payload into a change of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from django.db import connections
from django.db.models import Model
from msgspec import Raw

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows.row_decoder import Operation, RowDecoder, Timing, row_decoder
from pgpubsub_sql.sql import holds_nul

Row = TypeVar("Row", bound=Model)


class Change(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """What happened to one row or, by TRUNCATE, to a whole table.

    A batch listener of a trigger channel gets a list of these.
    """

    op: Operation
    """``"INSERT"``, ``"UPDATE"``, ``"DELETE"`` or ``"TRUNCATE"``; inferred from the rows if the
    message does not say."""

    old: Row | None = None
    """The row as it was, as an instance that was never saved; None for INSERT and TRUNCATE."""

    new: Row | None = None
    """The row as it became, as an instance that was never saved; None for DELETE and TRUNCATE."""

    when: Timing = "AFTER"
    """``"AFTER"`` or ``"BEFORE"``: whether the trigger fired before or after the row was
    written."""

    context: dict[str, Any] = {}
    """The notification context of the transaction that wrote."""


def decode_change(model: type[Model], raw: str | bytes, *, using: str) -> Change[Any]:
    """Decode a trigger's payload into instances of *model*, bound to the database *using*.

    Raises :class:`PayloadError`, which names the column that does not fit. Errors of the connection
    itself pass through: they are not the payload's fault.
    """
    return change_decoder(model, using)(raw)


def change_decoder(model: type[Model], using: str) -> Callable[[str | bytes], Change[Any]]:
    """Return what :func:`decode_change` does with each payload, prepared once for this thread."""
    decoder, connection = row_decoder(model, using), connections[using]

    def decode(raw: str | bytes) -> Change[Any]:
        message = _parse(decoder, raw)
        operation = _operation(decoder, message)
        old, new = decoder.instances(message, connection)
        return Change(
            op=operation, when=message.when, old=old, new=new, context=message.context or {}
        )

    return decode


def _parse(decoder: RowDecoder, raw: str | bytes) -> Any:
    try:
        text = raw if isinstance(raw, str) else str(raw, "utf-8")
        if holds_nul(text):
            raise ValueError("it holds a NUL character, which no PostgreSQL text can")
        return decoder.message.decode(
            _rename_keys(text, decoder.renamed) if decoder.renamed else text
        )
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise PayloadError(f"{decoder.label}: {brief(error)}") from error


def _rename_keys(text: str, renamed: Mapping[str, str]) -> bytes:
    """In both rows, rename the columns whose names msgspec does not take."""
    message = msgspec.json.decode(text, type=dict[str, Raw])
    for side in ("old", "new"):
        row = msgspec.json.decode(message.get(side, Raw(b"null")), type=dict[str, Raw] | None)
        if row is not None:
            fields = {renamed.get(name, name): value for name, value in row.items()}
            message[side] = Raw(msgspec.json.encode(fields))
    return msgspec.json.encode(message)


def _operation(decoder: RowDecoder, message: Any) -> Operation:
    operation: Operation = message.op or _inferred(message)
    if operation != "TRUNCATE":
        # One row of an UPDATE is enough: rows that could not be paired travel alone.
        missing = (message.old is None or operation == "INSERT") and (
            message.new is None or operation == "DELETE"
        )
        if missing:
            raise PayloadError(f"{decoder.label}: {operation} without its row")
    return operation


def _inferred(message: Any) -> Operation:
    if message.old is None:
        return "INSERT"
    return "DELETE" if message.new is None else "UPDATE"
