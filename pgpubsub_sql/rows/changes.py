"""A trigger's payload becomes a change."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db.models import Model

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows.envelope import Operation, Timing, respell
from pgpubsub_sql.rows.plans import Plan, plan_of
from pgpubsub_sql.sql import holds_nul


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one row, or, for TRUNCATE, to a whole table."""

    op: Operation
    """The statement's kind; inferred from the rows where a message does not tell."""

    when: Timing
    """Whether the trigger fired before or after the row was written."""

    old: Model | None
    """The row as it was, never saved; None for INSERT and TRUNCATE."""

    new: Model | None
    """The row as it became, never saved; None for DELETE and TRUNCATE."""

    context: dict[str, Any]
    """The notification context of the transaction that wrote."""


def decode_change(model: type[Model], raw: str | bytes, *, using: str) -> Change:
    """Decode a trigger's payload into instances of ``model``, bound to the database ``using``.

    ``PayloadError`` names the column that does not fit. Errors of the connection itself pass
    through: they are no fault of the payload.
    """
    plan = plan_of(model, using)
    envelope = _parse(plan, raw)
    operation = _operation(plan, envelope)
    old, new = plan.instances(envelope)
    return Change(
        op=operation, when=envelope.when, old=old, new=new, context=envelope.context or {}
    )


def _parse(plan: Plan, raw: str | bytes) -> Any:
    try:
        text = raw if isinstance(raw, str) else str(raw, "utf-8")
        if holds_nul(text):
            raise ValueError("it holds a NUL character, which no PostgreSQL text can")
        return plan.envelope.decode(respell(text, plan.respelled) if plan.respelled else text)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise PayloadError(f"{plan.label}: {brief(error)}") from error


def _operation(plan: Plan, envelope: Any) -> Operation:
    operation: Operation = envelope.op or _inferred(envelope)
    if operation != "TRUNCATE":
        # One row of an UPDATE is enough: those that could not be paired travel alone.
        missing = (envelope.old is None or operation == "INSERT") and (
            envelope.new is None or operation == "DELETE"
        )
        if missing:
            raise PayloadError(f"{plan.label}: {operation} without its row")
    return operation


def _inferred(envelope: Any) -> Operation:
    if envelope.old is None:
        return "INSERT"
    return "DELETE" if envelope.new is None else "UPDATE"
