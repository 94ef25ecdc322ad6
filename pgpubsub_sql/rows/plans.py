"""How the rows of one model are decoded on one database, planned once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import msgspec
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ForeignKey, Model
from msgspec import UNSET

from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.rows.asking import ask
from pgpubsub_sql.rows.building import build
from pgpubsub_sql.rows.columns import AnyField, Column, column_of
from pgpubsub_sql.rows.envelope import envelope_decoder
from pgpubsub_sql.rows.readers import Reader


@dataclass(frozen=True)
class Plan:
    """How the rows of one model are decoded on one database. Numbers are positions in a row."""

    model: type[Model]
    using: str
    label: str
    attnames: list[str]
    columns: tuple[Column, ...]
    envelope: msgspec.json.Decoder[Any]
    respelled: Mapping[str, str]
    readers: tuple[tuple[int, Reader], ...]
    converted: tuple[tuple[int, Column], ...]
    slots: tuple[int | None, ...] | None
    """For each field its column; its parent link's for a parent's key; None if deferred."""
    primary: tuple[int, ...]
    generated: tuple[int, ...]
    virtual: tuple[int, ...]

    def instances(self, envelope: Any) -> tuple[Model | None, Model | None]:
        connection = connections[self.using]
        # Generated columns of the new row are computed only after the BEFORE triggers have run.
        unfinished = self.generated if envelope.when == "BEFORE" else ()
        return (
            None if envelope.old is None else self._instance(envelope.old, connection),
            None if envelope.new is None else self._instance(envelope.new, connection, unfinished),
        )

    def _instance(
        self, row: Any, connection: BaseDatabaseWrapper, unfinished: tuple[int, ...] = ()
    ) -> Model:
        values = list(msgspec.structs.astuple(row))
        for position in unfinished:
            values[position] = UNSET
        for position in self.virtual:
            if values[position] is None:  # that is how triggers see every virtual column
                values[position] = UNSET
        self._read(values, connection)
        for key in self.primary:
            if values[key] is UNSET or values[key] is None:
                raise PayloadError(f"{self.columns[key].label}: the primary key is missing")
        if self.slots is not None:
            values = [UNSET if slot is None else values[slot] for slot in self.slots]
        return self._from_db(values)

    def _from_db(self, values: list[Any]) -> Model:
        present = [value for value in values if value is not UNSET]
        if len(present) == len(values):
            return build(self.model, self.using, self.attnames, present)
        pairs = zip(self.attnames, values, strict=True)
        names = [name for name, value in pairs if value is not UNSET]
        return build(self.model, self.using, names, present)

    def _read(self, values: list[Any], connection: BaseDatabaseWrapper) -> None:
        """Make them what a queryset's would be."""
        asked: dict[int, Any] = {}
        for position, read in self.readers:
            value = values[position]
            if value is None or value is UNSET:
                continue
            try:
                values[position] = read(value, connection)
            except (ValueError, OverflowError):
                asked[position] = value
        if asked:
            columns = [self.columns[position] for position in asked]
            answers = ask(columns, list(asked.values()), connection)
            for position, answer in zip(asked, answers, strict=True):
                values[position] = answer
        for position, column in self.converted:
            if values[position] is not UNSET:
                values[position] = column.convert(values[position], connection)


@cache
def plan_of(model: type[Model], using: str) -> Plan:
    connection = connections[using]
    meta = model._meta
    own = (meta.concrete_model or model)._meta.local_concrete_fields  # a proxy has none itself
    planned = [(field, column_of(field, f"c{n}", connection)) for n, field in enumerate(own)]
    fields = [field for field, column in planned if column]
    columns = tuple(column for _, column in planned if column)
    places = {field: position for position, field in enumerate(fields)}
    found = places | _parents_keys(places)
    slots = tuple(found.get(field) for field in meta.concrete_fields)
    return Plan(
        model=model,
        using=using,
        label=meta.label,
        attnames=[field.attname for field in meta.concrete_fields],
        columns=columns,
        envelope=envelope_decoder(model.__name__, columns),
        respelled={column.name: column.key for column in columns if column.name != column.key},
        readers=tuple(
            (n, column.wire.read) for n, column in enumerate(columns) if column.wire.read
        ),
        converted=tuple((n, column) for n, column in enumerate(columns) if column.converters),
        slots=None if slots == tuple(range(len(columns))) else slots,
        primary=tuple(places[field] for field in meta.pk_fields if field in places),
        generated=tuple(places[field] for field in fields if field.generated),
        virtual=tuple(
            places[field] for field in fields if getattr(field, "db_persist", None) is False
        ),
    )


def _parents_keys(places: Mapping[AnyField, int]) -> dict[AnyField, int]:
    """A parent's primary key equals the link to it, and so do those of its own parents."""
    known: dict[AnyField, int] = {}
    for field, place in places.items():
        while _is_parent_link(field):
            field = cast("ForeignKey[Any, Any]", field).target_field
            known[field] = place
    return known


def _is_parent_link(field: AnyField) -> bool:
    return bool(field.remote_field and getattr(field.remote_field, "parent_link", False))
