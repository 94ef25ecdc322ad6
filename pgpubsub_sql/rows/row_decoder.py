"""The decoder of one model's rows, prepared once per model and database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, cast

import msgspec
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ForeignKey, Model
from msgspec import UNSET, Raw, UnsetType

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.rows.columns import AnyField, Column, column_of, read_in_database
from pgpubsub_sql.rows.instances import build
from pgpubsub_sql.rows.postgres_types import Reader

Operation: TypeAlias = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Timing: TypeAlias = Literal["AFTER", "BEFORE"]


@dataclass(frozen=True)
class RowDecoder:
    """Decodes the rows of one model on one database. Integers are positions in a row."""

    model: type[Model]
    using: str
    label: str
    attnames: list[str]
    columns: tuple[Column, ...]
    message: msgspec.json.Decoder[Any]
    """Parses a whole message: operation, timing, context, and both rows in the same pass."""
    renamed: Mapping[str, str]
    """Columns whose names msgspec does not take, and the keys that replace them."""
    readers: tuple[tuple[int, Reader], ...]
    converted: tuple[tuple[int, Column], ...]
    """Columns that have converters."""
    slots: tuple[int | None, ...] | None
    """For each field of the model its column, for a parent's key that of the link to the parent,
    and None if it is deferred. None as a whole if fields and columns are the same."""
    primary: tuple[int, ...]
    generated: tuple[int, ...]
    virtual: tuple[int, ...]
    """Generated columns that are not stored."""

    def instances(
        self, message: Any, connection: BaseDatabaseWrapper
    ) -> tuple[Model | None, Model | None]:
        """Return the instances of a parsed message, old and new."""
        # PostgreSQL computes the new row's generated columns only after BEFORE triggers have run.
        unfinished = self.generated if message.when == "BEFORE" else ()
        return (
            None if message.old is None else self._instance(message.old, connection),
            None if message.new is None else self._instance(message.new, connection, unfinished),
        )

    def _instance(
        self, row: Any, connection: BaseDatabaseWrapper, unfinished: tuple[int, ...] = ()
    ) -> Model:
        values = list(msgspec.structs.astuple(row))
        for position in unfinished:
            values[position] = UNSET
        for position in self.virtual:
            if values[position] is None:  # triggers see NULL in every virtual column
                values[position] = UNSET
        self._read(values, connection)
        for key in self.primary:
            if values[key] is UNSET or values[key] is None:
                raise PayloadError(f"{self.columns[key].label}: the primary key is missing")
        if self.slots is not None:
            values = [UNSET if slot is None else values[slot] for slot in self.slots]
        return self._from_db(values)

    def _from_db(self, values: list[Any]) -> Model:
        names, present = self.attnames, values
        if UnsetType in map(type, values):
            pairs = zip(names, values, strict=True)
            names = [name for name, value in pairs if value is not UNSET]
            present = [value for value in values if value is not UNSET]
        return build(self.model, self.using, names, present)

    def _read(self, values: list[Any], connection: BaseDatabaseWrapper) -> None:
        """Replace *values* in place by what a queryset would give."""
        unread: dict[int, Any] = {}
        for position, read in self.readers:
            value = values[position]
            if value is None or value is UNSET:
                continue
            try:
                values[position] = read(value, connection)
            except (ValueError, OverflowError):
                unread[position] = value
        if unread:
            columns = [self.columns[position] for position in unread]
            answers = read_in_database(columns, list(unread.values()), connection)
            for position, answer in zip(unread, answers, strict=True):
                values[position] = answer
        for position, column in self.converted:
            if values[position] is not UNSET:
                values[position] = column.convert(values[position], connection)


@cache
def row_decoder(model: type[Model], using: str) -> RowDecoder:
    """Return the decoder of the rows of *model* on the database *using*."""
    connection = connections[using]
    meta = model._meta
    own = (meta.concrete_model or model)._meta.local_concrete_fields  # a proxy has none itself
    planned = [(field, column_of(field, f"c{n}", connection)) for n, field in enumerate(own)]
    fields = [field for field, column in planned if column]
    columns = tuple(column for _, column in planned if column)
    places = {field: position for position, field in enumerate(fields)}
    found = places | _parent_keys(places)
    slots = tuple(found.get(field) for field in meta.concrete_fields)
    return RowDecoder(
        model=model,
        using=using,
        label=meta.label,
        attnames=[field.attname for field in meta.concrete_fields],
        columns=columns,
        message=_message_decoder(model.__name__, columns),
        renamed={column.name: column.key for column in columns if column.name != column.key},
        readers=tuple(
            (n, column.type.read) for n, column in enumerate(columns) if column.type.read
        ),
        converted=tuple((n, column) for n, column in enumerate(columns) if column.converters),
        slots=None if slots == tuple(range(len(columns))) else slots,
        primary=tuple(places[field] for field in meta.pk_fields if field in places),
        generated=tuple(places[field] for field in fields if field.generated),
        virtual=tuple(
            places[field] for field in fields if getattr(field, "db_persist", None) is False
        ),
    )


def _message_decoder(name: str, columns: Sequence[Column]) -> msgspec.json.Decoder[Any]:
    fields = [(column.alias, _optional(column.type.json_type), UNSET) for column in columns]
    row = msgspec.defstruct(
        f"{name}Row", fields, rename={column.alias: column.key for column in columns}, gc=False
    )
    message = msgspec.defstruct(
        f"{name}Change",
        [
            ("op", Operation | None, None),
            ("when", Timing, "AFTER"),
            ("old", row | None, None),
            ("new", row | None, None),
            ("context", dict[str, Any] | None, None),
        ],
    )
    return msgspec.json.Decoder(message)


def _optional(type_: Any) -> Any:
    return Raw | UnsetType if type_ is Raw else type_ | UnsetType | None


def _parent_keys(places: Mapping[AnyField, int]) -> dict[AnyField, int]:
    """Return the places of parents' primary keys: each equals the link that leads to it."""
    known: dict[AnyField, int] = {}
    for field, place in places.items():
        while _is_parent_link(field):
            field = cast("ForeignKey[Any, Any]", field).target_field
            known[field] = place
    return known


def _is_parent_link(field: AnyField) -> bool:
    return bool(field.remote_field and getattr(field.remote_field, "parent_link", False))
