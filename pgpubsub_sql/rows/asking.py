"""What Python cannot read is left to PostgreSQL and the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from django import db
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.rows.columns import Column
from pgpubsub_sql.sql import sqlstate

# SQLSTATE classes that blame the value or its type: limits, features, data, constraints, names.
_REFUSALS = frozenset({"0A", "22", "23", "42", "54"})


def ask(
    columns: Sequence[Column], values: Sequence[Any], connection: BaseDatabaseWrapper
) -> Sequence[Any]:
    """Let PostgreSQL read values from JSON and the driver hand them over, as for a queryset."""
    row = dict(zip((column.alias for column in columns), values, strict=True))
    selections = ", ".join(column.selection for column in columns)
    declarations = ", ".join(f"{column.alias} {column.cast}" for column in columns)
    # Types and selections are the fields' own SQL, names are ours: no value is in here.
    query = (
        f"SELECT {selections} "  # noqa: S608
        f"FROM pg_catalog.jsonb_to_record(%s::pg_catalog.jsonb) AS r({declarations})"
    )
    params = [param for column in columns for param in column.params]
    try:
        # A refusal must not spoil the transaction around it.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(query, [*params, msgspec.json.encode(row).decode()])
            return cast("Sequence[Any]", cursor.fetchone())
    except (db.Error, ValueError, OverflowError) as error:
        if isinstance(error, db.Error) and not _is_refusal(error):
            raise
        labels = ", ".join(column.label for column in columns)
        raise PayloadError(f"{labels}: {brief(error)}") from error


def _is_refusal(error: db.Error) -> bool:
    """Whether the value is to blame; everything else, a lost connection say, is not its fault."""
    return isinstance(error, db.DataError) or sqlstate(error)[:2] in _REFUSALS
