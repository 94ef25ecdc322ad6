"""A row's JSON becomes a model instance.

A row travels as PostgreSQL's ``to_jsonb(row)``. A listener must see what ``Model.objects.get()``
would give it, the same values of the same types, so every column goes the same way, planned once
per model:

1. **typed**: msgspec reads all columns in one pass, each into the type its database type calls for;
2. **read**: what JSON spells differently (``bytea``, ``interval``, a moment in the writer's time
   zone) becomes the value the database driver would have given;
3. **asked**: a type without a faithful JSON form, or a value Python cannot read, is left to
   PostgreSQL and the driver: one query for the row, and only then;
4. **converted**: Django's own converters run, ``from_db_value`` among them, as in a queryset.

The model's declaration decides a column's type, not the table of today: a row may have waited
while its table changed. Columns that did not travel, or whose JSON has lost something, are
deferred, so that nobody takes them for empty or saves them as such.
"""

from __future__ import annotations

import binascii
import datetime
import re
import uuid
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any, Literal, TypeAlias, cast

import msgspec
from django import db
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from django.db.models import Field, ForeignKey, Model
from django.db.models.expressions import Col
from django.db.models.sql import Query
from msgspec import UNSET, Raw, UnsetType

from pgpubsub_sql.errors import PayloadError

__all__ = ["Change", "decode_change"]

Operation: TypeAlias = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Timing: TypeAlias = Literal["AFTER", "BEFORE"]


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
    plan = _plan(model, using)
    envelope = _parse(plan, raw)
    operation = _operation(plan, envelope)
    old, new = plan.instances(envelope)
    return Change(
        op=operation, when=envelope.when, old=old, new=new, context=envelope.context or {}
    )


# --------------------------------------------------------------------------------- the envelope

# jsonb writes a backslash as two; an odd number of them before u0000 is the character itself.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _parse(plan: _Plan, raw: str | bytes) -> Any:
    try:
        text = raw if isinstance(raw, str) else str(raw, "utf-8")
        if "\\u0000" in text and _NUL.search(text):
            raise ValueError("it holds a NUL character, which no PostgreSQL text can")
        return plan.envelope.decode(_respell(text, plan.respelled) if plan.respelled else text)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise PayloadError(f"{plan.label}: {error}") from error


def _operation(plan: _Plan, envelope: Any) -> Operation:
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


# ------------------------------------------------------------------------------------- readers

Reader: TypeAlias = Callable[[Any, BaseDatabaseWrapper], Any]
"""From msgspec's value to the driver's. UNSET defers the column; a ValueError or OverflowError
leaves the value to PostgreSQL."""


def _text(value: Raw) -> str | None:
    text = str(cast(bytes, value), "utf-8")
    return None if text == "null" else text


def _leave(value: Raw, connection: BaseDatabaseWrapper) -> None:
    if _text(value) is not None:
        raise ValueError("only PostgreSQL can read this type")


# A range of dates is written in the writer's DateStyle. ISO means the same everywhere; 01/02/2026,
# 01-02-2026, 01.02.2026 and "Thu Jan  1" do not.
_NOT_ISO = re.compile(r"/|\b\d\d[.-]\d\d[.-]\d{4}|[A-Z][a-z]{2} ")


def _leave_iso(value: Raw, connection: BaseDatabaseWrapper) -> UnsetType | None:
    if _NOT_ISO.search(_text(value) or ""):
        return UNSET
    _leave(value, connection)
    return None


def _json(value: Raw, connection: BaseDatabaseWrapper) -> str | None:
    return _text(value)  # JSONField parses it: floats, long integers and decoders are its matter


def _float(value: Any, connection: BaseDatabaseWrapper) -> float:
    return float(value)  # NaN and the infinities travel as strings; jsonb knows no -0.0


def _date(value: str, connection: BaseDatabaseWrapper) -> datetime.date:
    return datetime.date.fromisoformat(value)


def _time(value: str, connection: BaseDatabaseWrapper) -> datetime.time:
    return datetime.time.fromisoformat(value)


def _datetime(value: str, connection: BaseDatabaseWrapper) -> datetime.datetime:
    """A moment is written in the writer's time zone, and read in the connection's."""
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:  # a column without time zone
        return moment
    if connection.timezone is not None:
        return moment.astimezone(connection.timezone)
    here = zoneinfo.ZoneInfo(connection.timezone_name)  # USE_TZ = False
    return moment.astimezone(here).replace(tzinfo=None)


def _bytes(value: str, connection: BaseDatabaseWrapper) -> bytes | memoryview:
    if not value.startswith("\\x"):
        raise ValueError("written with bytea_output = 'escape'")
    content = binascii.unhexlify(value[2:])
    return content if is_psycopg3 else memoryview(content)


def _array(value: Raw, connection: BaseDatabaseWrapper, *, item: Any, read: Reader | None) -> Any:
    # PostgreSQL does not enforce the dimensions that a column declares: it reads all others.
    items = None if _text(value) is None else item.decode(value)
    return items if read is None else _each(items, read, connection)


def _each(value: Any, read: Reader, connection: BaseDatabaseWrapper) -> Any:
    if isinstance(value, list):
        return [_each(item, read, connection) for item in value]
    return None if value is None else read(value, connection)


# ----------------------------------------------------------------------------------- intervals

_CLOCK = r"(?P<sign>[-+]?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)"
_INTERVALS = tuple(
    re.compile(pattern)
    for pattern in (
        # postgres: 1 year 2 mons -3 days +04:05:06.789
        r"(?:(?P<years>[-+]?\d+) years? ?)?(?:(?P<months>[-+]?\d+) mons? ?)?"
        rf"(?:(?P<days>[-+]?\d+) days? ?)?(?:{_CLOCK})?",
        # iso_8601: P1Y2M-3DT4H5M6.789S
        r"P(?:(?P<years>-?\d+)Y)?(?:(?P<months>-?\d+)M)?(?:(?P<days>-?\d+)D)?"
        r"(?:T(?:(?P<hours>-?\d+)H)?(?:(?P<minutes>-?\d+)M)?(?:(?P<seconds>-?\d+(?:\.\d+)?)S)?)?",
        # postgres_verbose: @ 1 year 2 mons -3 days 4 hours 5 mins 6.789 secs ago
        r"@(?: (?P<years>-?\d+) years?)?(?: (?P<months>-?\d+) mons?)?(?: (?P<days>-?\d+) days?)?"
        r"(?: (?P<hours>-?\d+) hours?)?(?: (?P<minutes>-?\d+) mins?)?"
        r"(?: (?P<seconds>-?\d+(?:\.\d+)?) secs?)?(?: 0)?(?P<negative> ago)?",
        # sql_standard, one sign for all: -1-2, -3 4:05:06.789, -4:05:06, 0
        rf"(?P<negative>-?)(?:(?P<years>\d+)-(?P<months>\d+)|(?:(?P<days>\d+) )?{_CLOCK}|0)",
        # sql_standard, signs differ: +1-2 -3 +4:05:06.789
        rf"(?P<era>[-+])(?P<years>\d+)-(?P<months>\d+) (?P<days>[-+]\d+) {_CLOCK}",
    )
)


def _interval(value: str, connection: BaseDatabaseWrapper) -> datetime.timedelta:
    """Read any IntervalStyle: the writer's session chose it, and only the text tells which."""
    match = next(filter(None, (style.fullmatch(value) for style in _INTERVALS)), None)
    if match is None or not value:
        raise ValueError("not an interval")
    part = match.groupdict("0")
    era, clock = (-1 if part.get(sign) == "-" else 1 for sign in ("era", "sign"))
    delta = datetime.timedelta(
        # A year is 365 days and a month 30, as both drivers have it.
        days=era * (365 * int(part["years"]) + 30 * int(part["months"])) + int(part["days"]),
        hours=clock * int(part["hours"]),
        minutes=clock * int(part["minutes"]),
        seconds=clock * float(part["seconds"]),
    )
    return -delta if part.get("negative", "0") in {"-", " ago"} else delta


# --------------------------------------------------------------------------------------- types


@dataclass(frozen=True)
class _Wire:
    """How the values of one database type travel."""

    type: Any
    """What msgspec reads; None travels besides."""
    read: Reader | None = None
    """What is left to do then."""


_UNKNOWN = _Wire(Raw, _leave)
_RANGE_OF_DATES = _Wire(Raw, _leave_iso)

_WIRES: Mapping[str, _Wire] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), _Wire(int)),
    **dict.fromkeys(("smallserial", "serial", "bigserial"), _Wire(int)),
    **dict.fromkeys(("varchar", "character varying", "text", "char", "citext"), _Wire(str)),
    **dict.fromkeys(("numeric", "decimal"), _Wire(Decimal)),
    **dict.fromkeys(
        ("real", "double precision"),
        _Wire(float | Literal["NaN", "Infinity", "-Infinity"], _float),
    ),
    **dict.fromkeys(
        ("timestamp with time zone", "timestamptz", "timestamp"), _Wire(str, _datetime)
    ),
    **dict.fromkeys(("daterange", "tsrange", "tstzrange"), _RANGE_OF_DATES),
    "boolean": _Wire(bool),
    "bytea": _Wire(str, _bytes),
    "date": _Wire(str, _date),
    "hstore": _Wire(dict[str, str | None]),
    "inet": _Wire(str),
    "interval": _Wire(str, _interval),
    "jsonb": _Wire(Raw, _json),
    "time": _Wire(str, _time),
    "uuid": _Wire(uuid.UUID),
}

# to_jsonb() rounds the coordinates of these, or writes them in the language of the writer.
_LOSSY = ("geography", "geometry", "raster", "money")

_DIMENSION = re.compile(r"\[\d*\]")
_MODIFIER = re.compile(r"\s*\([^()]*\)")

# Casting to these would round, or refuse, what a column has held since it was widened.
_LIMITED = re.compile(r"^(varchar|character varying|numeric|decimal)\s*\([^()]*\)")


def _wire(db_type: str) -> _Wire:
    name = _MODIFIER.sub("", _DIMENSION.sub("", db_type)).strip().lower()
    wire = _WIRES.get(name, _UNKNOWN)
    dimensions = db_type.count("[")
    if not dimensions or wire in (_UNKNOWN, _RANGE_OF_DATES):
        return wire
    nested = wire.type if wire.type is Raw else wire.type | None
    for _ in range(dimensions):
        nested = list[nested]  # type: ignore[valid-type]
    return _Wire(Raw, partial(_array, item=msgspec.json.Decoder(nested), read=wire.read))


# ------------------------------------------------------------------------------------- columns

_Field: TypeAlias = "Field[Any, Any]"


@dataclass(frozen=True)
class _Column:
    """One column that travels, and what is left to do when msgspec has read it."""

    label: str
    name: str
    key: str
    wire: _Wire
    expression: Col
    converters: tuple[Callable[[Any, Col, BaseDatabaseWrapper], Any], ...]
    alias: str
    """Its name in our query: whatever the column's own name holds stays out of SQL."""
    cast: str
    selection: str
    """How a queryset would select it from there, with its parameters."""
    params: tuple[Any, ...]

    def convert(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        try:
            for converter in self.converters:
                value = converter(value, self.expression, connection)
        except db.Error:
            raise
        except Exception as error:  # a custom field's own code, or JSON nested too deeply
            raise PayloadError(f"{self.label}: {error}") from error
        return value


def _column(field: _Field, alias: str, connection: BaseDatabaseWrapper) -> _Column | None:
    """Plan a field's column; None if what travels cannot be what a queryset selects."""
    name = cast(str, field.column)  # a concrete field has one
    expression = field.get_col(field.model._meta.db_table)
    db_type = field.db_parameters(connection)["type"]
    if type(expression) is not Col or not db_type or db_type.startswith(_LOSSY):
        return None
    compiler = Query(field.model).get_compiler(connection=connection)
    sql, params = expression.select_format(compiler, f"r.{alias}", ())
    return _Column(
        label=f"{field.model._meta.label}.{field.name}",
        name=name,
        key=name if _is_key(name) else f"${alias}",
        wire=_wire(db_type) if sql == f"r.{alias}" else _UNKNOWN,
        expression=expression,
        converters=(
            *connection.ops.get_db_converters(expression),
            *expression.get_db_converters(connection),
        ),
        alias=alias,
        cast=_LIMITED.sub(r"\1", db_type).replace("%", "%%"),
        selection=sql,
        params=tuple(params),
    )


def _is_key(column: str) -> bool:
    """Whether msgspec takes a name as it is: only those that JSON writes without escapes."""
    return column.isprintable() and '"' not in column and "\\" not in column


# --------------------------------------------------------------------------------------- plans


@dataclass(frozen=True)
class _Plan:
    """How the rows of one model are decoded on one database. Numbers are positions in a row."""

    model: type[Model]
    using: str
    label: str
    attnames: list[str]
    columns: tuple[_Column, ...]
    envelope: msgspec.json.Decoder[Any]
    respelled: Mapping[str, str]
    readers: tuple[tuple[int, Reader], ...]
    converted: tuple[tuple[int, _Column], ...]
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
            return self.model.from_db(self.using, self.attnames, present)
        pairs = zip(self.attnames, values, strict=True)
        names = [name for name, value in pairs if value is not UNSET]
        return self.model.from_db(self.using, names, present)

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
            answers = _ask(columns, list(asked.values()), connection)
            for position, answer in zip(asked, answers, strict=True):
                values[position] = answer
        for position, column in self.converted:
            if values[position] is not UNSET:
                values[position] = column.convert(values[position], connection)


@cache
def _plan(model: type[Model], using: str) -> _Plan:
    connection = connections[using]
    meta = model._meta
    own = (meta.concrete_model or model)._meta.local_concrete_fields  # a proxy has none itself
    planned = [(field, _column(field, f"c{n}", connection)) for n, field in enumerate(own)]
    fields = [field for field, column in planned if column]
    columns = tuple(column for _, column in planned if column)
    places = {field: position for position, field in enumerate(fields)}
    found = places | _parents_keys(places)
    slots = tuple(found.get(field) for field in meta.concrete_fields)
    return _Plan(
        model=model,
        using=using,
        label=meta.label,
        attnames=[field.attname for field in meta.concrete_fields],
        columns=columns,
        envelope=_envelope(model.__name__, columns),
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


def _parents_keys(places: Mapping[_Field, int]) -> dict[_Field, int]:
    """A parent's primary key equals the link to it, and so do those of its own parents."""
    known: dict[_Field, int] = {}
    for field, place in places.items():
        while _is_parent_link(field):
            field = cast("ForeignKey[Any, Any]", field).target_field
            known[field] = place
    return known


def _is_parent_link(field: _Field) -> bool:
    return bool(field.remote_field and getattr(field.remote_field, "parent_link", False))


def _envelope(name: str, columns: Sequence[_Column]) -> msgspec.json.Decoder[Any]:
    """One decoder for the whole message, so that its rows are parsed once."""
    travels = [(column.alias, _optional(column.wire.type), UNSET) for column in columns]
    row = msgspec.defstruct(
        f"{name}Row", travels, rename={column.alias: column.key for column in columns}, gc=False
    )
    envelope = msgspec.defstruct(
        f"{name}Change",
        [
            ("op", Operation | None, None),
            ("when", Timing, "AFTER"),
            ("old", row | None, None),
            ("new", row | None, None),
            ("context", dict[str, Any] | None, None),
        ],
    )
    return msgspec.json.Decoder(envelope)


def _optional(type_: Any) -> Any:
    return Raw | UnsetType if type_ is Raw else type_ | UnsetType | None


# --------------------------------------------------------------------------- asking PostgreSQL

# SQLSTATE classes that blame the value or its type: limits, features, data, constraints, names.
_REFUSALS = frozenset({"0A", "22", "23", "42", "54"})


def _ask(
    columns: Sequence[_Column], values: Sequence[Any], connection: BaseDatabaseWrapper
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
        raise PayloadError(f"{labels}: {error}") from error


def _is_refusal(error: db.Error) -> bool:
    """Whether the value is to blame; everything else, a lost connection say, is not its fault."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    return isinstance(error, db.DataError) or state[:2] in _REFUSALS


# -------------------------------------------------------------------------- names like 'a"b\c'


def _respell(text: str, keys: Mapping[str, str]) -> bytes:
    """Rename the columns whose names msgspec does not take."""
    envelope = msgspec.json.decode(text, type=dict[str, Raw])
    for side in ("old", "new"):
        row = msgspec.json.decode(envelope.get(side, Raw(b"null")), type=dict[str, Raw] | None)
        if row is not None:
            renamed = {keys.get(name, name): value for name, value in row.items()}
            envelope[side] = Raw(msgspec.json.encode(renamed))
    return msgspec.json.encode(envelope)
