"""Faults in the tables and functions that all channels share, and their repair."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.channels import longest_keep
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops import subscriptions
from pgpubsub_sql.migrations_ops.applying import Editor, execute
from pgpubsub_sql.migrations_ops.shared_operations import (
    CreateCounters,
    CreateHelper,
    CreateHistory,
    CreateIsNotified,
    CreateSecret,
    CreateShared,
    CreateSubscriptions,
    TuneAutovacuum,
    history_view,
    slots,
)
from pgpubsub_sql.sql import SQL, query, quote_identifier, render
from pgpubsub_sql.sql.catalogue import function_definition
from pgpubsub_sql.sql.comparison import FunctionDefinition
from pgpubsub_sql.sql.own_tables import (
    COUNTER,
    HANDLED,
    HANDLED_COLUMNS,
    HISTORY,
    IN_FLIGHT,
    INBOX,
    INDEXES,
    KEYS,
    LONG_PAYLOAD,
    NOTIFICATION,
    POSITION,
    SECRET,
    SLOTS,
    SUBSCRIPTION,
    TABLES,
    TableColumn,
)

_MODELS = {
    NOTIFICATION: "Notification",
    LONG_PAYLOAD: "LongPayload",
    IN_FLIGHT: "InFlight",
    POSITION: "Position",
    INBOX: "Inbox",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One difference from what our migrations create."""

    text: str
    """What is wrong, as a sentence without a full stop."""
    repair: Callable[[Editor], object] = dataclasses.field(compare=False)
    """Repairs it."""
    is_outdated: bool = False
    """Whether only the declarations have changed since the last ``migrate``, which repairs it."""


class _PresentColumn(NamedTuple):
    """A column that the catalogue has of one of our tables."""

    name: str
    position: int
    type: str
    is_required: bool
    is_identity: bool
    default: str | None


_Index = tuple[bool, str, bool]
"""Whether it is the primary key, its definition after the table's name, and whether it is valid."""


@dataclasses.dataclass(kw_only=True)
class _Present:
    """What the catalogue has of our objects. Columns and indexes are by table."""

    columns: dict[str, list[_PresentColumn]] = dataclasses.field(
        default_factory=lambda: defaultdict(list)
    )
    unlogged: set[str] = dataclasses.field(default_factory=set)
    indexes: dict[str, dict[str, _Index]] = dataclasses.field(
        default_factory=lambda: defaultdict(dict)
    )
    functions: list[list[Any]]
    """What :func:`_wanted_helpers` returns, as it is, in the same order."""
    is_secret_public: bool
    slots: int
    """Number of the history's partitions."""
    view: list[str] | None
    """The columns of the history's view; None if there is none."""


def shared_operations() -> Iterator[CreateShared]:
    """Yield the operations of our own migrations that install something beside models.

    They are read from the package, as MIGRATION_MODULES may turn our migrations off.
    """
    package = import_module(f"{APP}.migrations")
    for name in sorted(module.name for module in iter_modules(package.__path__)):
        for operation in import_module(f"{package.__name__}.{name}").Migration.operations:
            if isinstance(operation, CreateShared):
                yield operation


def find_faults(connection: BaseDatabaseWrapper, schema: str) -> list[Fault]:
    """Return the faults in the *schema* of our tables, in the order in which to repair them."""
    helpers = _wanted_helpers(schema)
    present = _read(connection, schema, [helper.signature for helper, _ in helpers])
    return [
        *_table_faults(connection, schema, present),
        *_helper_faults(schema, helpers, present),
        *_subscription_faults(connection),
    ]


def repair_faults(connection: BaseDatabaseWrapper, schema: str, found: Sequence[Fault]) -> None:
    """Repair what was *found*, all of it or nothing."""
    if found:
        with connection.schema_editor(atomic=True) as editor:
            before = _search_path(connection)
            _set_search_path(connection, quote_identifier(schema))
            for fault in found:
                fault.repair(editor)
            _set_search_path(connection, before)  # our transaction may be part of a larger one


def _search_path(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute(query("get_setting"), {"name": "search_path"})
        return str(cursor.fetchone()[0])


def _set_search_path(connection: BaseDatabaseWrapper, path: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query("set_search_path"), {"path": path})


def _read(connection: BaseDatabaseWrapper, schema: str, signatures: list[str]) -> _Present:
    """Return what *schema* has of our objects: one query, as audits are frequent."""
    values: dict[str, Any] = {
        "schema": schema,
        "tables": list(TABLES),
        "signatures": signatures,
    }
    with connection.cursor() as cursor:
        cursor.execute(query("our_objects"), values)
        *arrays, is_secret_public, slots, view = cursor.fetchone()
    columns, indexes, functions = (json.loads(array or "[]") for array in arrays)
    present = _Present(
        functions=functions, is_secret_public=is_secret_public, slots=slots, view=view
    )
    for table, is_logged, *properties in columns:
        present.columns[table].append(_PresentColumn(*properties))
        if not is_logged:
            present.unlogged.add(table)
    for table, name, *properties in indexes:
        present.indexes[table][name] = tuple(properties)
    return present


def _table_faults(
    connection: BaseDatabaseWrapper, schema: str, present: _Present
) -> Iterator[Fault]:
    for table in TABLES:
        if table not in present.columns:
            yield _missing_table(connection, schema, table)
            continue
        where = {"schema": schema, "table": table}
        if table in present.unlogged:
            yield _fault(f"The table {table} is unlogged", "set_logged", where)
        yield from _column_faults(where, present.columns[table])
        yield from _index_faults(where, present.indexes[table])
    if HISTORY in present.columns and present.view != list(HANDLED_COLUMNS):
        what = "is missing" if present.view is None else "has other columns"
        yield Fault(f"The view {HANDLED} {what}", partial(_create_view, schema))
    if longest_keep() and present.slots < SLOTS:
        text = f"The table {HISTORY} has {present.slots} of the {SLOTS} partitions that it needs"
        yield Fault(text, partial(_create_slots, schema), is_outdated=True)
    if present.is_secret_public:
        closed = render("helpers/revoke_secret", schema=schema)
        yield Fault(f"Every role may read the table {SECRET}", partial(_run, closed))


def _missing_table(connection: BaseDatabaseWrapper, schema: str, table: str) -> Fault:
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"schema": schema, "indexes": list(INDEXES[table])}
        cursor.execute(query("renamed_table"), values)
        renamed = cursor.fetchone()
    if renamed:
        where = {"schema": schema, "table": table, "present": renamed[0]}
        return _fault(f"The table {table} is called {renamed[0]}", "rename_table", where)
    return Fault(f"The table {table} is missing", partial(_create_table, table, schema))


def _column_faults(where: dict[str, str], present: list[_PresentColumn]) -> Iterator[Fault]:
    table = where["table"]
    wanted, found = TABLES[table], {one.name: one for one in present}
    unknown = [one for one in present if one.name not in wanted]
    for position, (name, column) in enumerate(wanted.items(), start=1):
        if one := found.get(name):
            yield from _property_faults(where | {"column": name}, column, one)
        elif renamed := _renamed(column, position, unknown):
            unknown.remove(renamed)
            yield _fault(
                f"The column {name} of {table} is called {renamed.name}",
                "rename_column",
                where | {"column": name, "present": renamed.name},
            )
            yield from _property_faults(where | {"column": name}, column, renamed)
        else:
            repair = partial(_add_column, where | {"column": name}, column)
            yield Fault(f"The column {name} of {table} is missing", repair)
    for one in unknown:
        if one.is_required and one.default is None and not one.is_identity:
            # It may be somebody's, so it stays; but our INSERTs have no value for it.
            yield _change(
                f"The column {one.name} of {table}, which is not ours, is NOT NULL",
                where | {"column": one.name},
                "DROP NOT NULL",
            )


def _renamed(
    column: TableColumn, position: int, unknown: list[_PresentColumn]
) -> _PresentColumn | None:
    """Return the column that was renamed: an unknown one of the same type and position."""
    same = (one for one in unknown if (one.position, one.type) == (position, column.type))
    return next(same, None)


def _property_faults(
    where: dict[str, str], column: TableColumn, one: _PresentColumn
) -> Iterator[Fault]:
    named = f"The column {where['column']} of {where['table']}"
    if one.type != column.type:
        text = f"{named} is {one.type}, not {column.type}"
        yield Fault(text, partial(_change_type, where, column, one))
    elif one.default != column.default:
        yield _change(f"{named} has another default", where, _default(column))
    if one.is_required != column.is_required:
        text = f"{named} is {'nullable' if column.is_required else 'NOT NULL'}"
        yield _change(text, where, f"{'SET' if column.is_required else 'DROP'} NOT NULL")
    if column.is_identity and not one.is_identity:
        yield Fault(f"{named} is no longer an identity column", partial(_number, where))


def _index_faults(where: dict[str, str], found: dict[str, _Index]) -> Iterator[Fault]:
    table = where["table"]
    complete = [definition for _, definition, is_valid in found.values() if is_valid]
    if table in KEYS and not any(is_key for is_key, *_ in found.values()):
        columns: dict[str, Any] = where | {"columns": SQL(KEYS[table])}
        yield _fault(f"The primary key of {table} is missing", "create_key", columns)
    for name, definition in INDEXES[table].items():
        if definition not in complete:
            text = f"The index {name} of {table} is missing or differs"
            is_dropped = name in found  # an index of that name on another table is not ours
            repair = partial(_create_index, where, name, definition, is_dropped=is_dropped)
            yield Fault(text, repair)


def _helper_faults(
    schema: str, helpers: list[tuple[CreateHelper, FunctionDefinition]], present: _Present
) -> Iterator[Fault]:
    for (helper, wanted), (*row, is_public) in zip(helpers, present.functions, strict=True):
        if row[0] is None:
            text = f"The function {helper.signature} is missing"
            yield Fault(text, partial(_create_helper, helper, schema, is_dropped=False))
        elif reasons := list((found := function_definition(*row)).differences(wanted)):
            if isinstance(helper, CreateIsNotified) and reasons == ["its body differs"]:
                text = f"The function {helper.signature} does not fit the notify of all channels"
                repair = partial(_create_helper, helper, schema, is_dropped=False)
                yield Fault(text, repair, is_outdated=True)
                continue
            text = f"The function {helper.signature} has been changed: {', '.join(reasons)}"
            is_dropped = not found.is_replaceable(wanted)
            yield Fault(text, partial(_create_helper, helper, schema, is_dropped=is_dropped))
        elif is_public:  # as after a restore without privileges
            text = f"Every role may execute the function {helper.signature}"
            yield Fault(text, partial(_create_helper, helper, schema, is_dropped=False))


def _subscription_faults(connection: BaseDatabaseWrapper) -> Iterator[Fault]:
    lanes = subscriptions.unregistered_lanes(connection)
    for text in subscriptions.describe_unregistered(lanes):
        yield Fault(text, lambda editor: subscriptions.register(editor.connection))


def _wanted_helpers(schema: str) -> list[tuple[CreateHelper, FunctionDefinition]]:
    """Return our functions and what each is in *schema*."""
    helpers = [one for one in shared_operations() if isinstance(one, CreateHelper)]
    return [(helper, _definition(helper.statement(schema))) for helper in helpers]


@cache
def _definition(statement: str) -> FunctionDefinition:
    return FunctionDefinition.parse(statement)


def _create_table(table: str, schema: str, editor: Editor) -> None:
    operations: dict[str, CreateShared] = {
        SECRET: CreateSecret(),
        COUNTER: CreateCounters(),
        SUBSCRIPTION: CreateSubscriptions(),
        HISTORY: CreateHistory(),
    }
    if operation := operations.get(table):
        operation.create(schema, editor)
    else:
        editor.create_model(apps.get_model(APP, _MODELS[table]))
        TuneAutovacuum().create(schema, editor)


def _create_view(schema: str, editor: Editor) -> None:
    execute(editor, history_view(schema))


def _create_slots(schema: str, editor: Editor) -> None:
    _run(slots(schema), editor)


def _create_helper(helper: CreateHelper, schema: str, editor: Editor, *, is_dropped: bool) -> None:
    if is_dropped:
        helper.drop(schema, editor)
    helper.create(schema, editor)


def _add_column(where: dict[str, str], column: TableColumn, editor: Editor) -> None:
    execute(editor, [render("tables/add_column", definition=column.definition, **where)])
    if column.default is None and not column.is_identity:
        execute(editor, [_changing(where, "DROP DEFAULT")])


def _number(where: dict[str, str], editor: Editor) -> None:
    quoted = f"{quote_identifier(where['schema'])}.{quote_identifier(where['table'])}"
    advance = render("tables/advance_identity", name=quoted, quoted=SQL(quoted))
    execute(editor, [_changing(where, "ADD GENERATED BY DEFAULT AS IDENTITY"), advance])


def _default(column: TableColumn) -> str:
    return f"SET DEFAULT {column.default}" if column.default else "DROP DEFAULT"


def _change_type(
    where: dict[str, str], column: TableColumn, one: _PresentColumn, editor: Editor
) -> None:
    """Change its type, and its default separately, which may not fit the other type."""
    changed = render("tables/change_type", type=SQL(column.type), **where)
    before = [_changing(where, "DROP DEFAULT")] if one.default else []
    after = [_changing(where, _default(column))] if column.default else []
    execute(editor, [*before, changed, *after])


def _create_index(
    where: dict[str, str], name: str, definition: str, editor: Editor, *, is_dropped: bool
) -> None:
    if is_dropped:
        _run(render("tables/drop_index", schema=where["schema"], index=name), editor)
    _run(render("tables/create_index", index=name, definition=SQL(definition), **where), editor)


def _change(text: str, where: dict[str, str], change: str) -> Fault:
    return Fault(text, partial(_run, _changing(where, change)))


def _fault(text: str, template: str, values: dict[str, Any]) -> Fault:
    return Fault(text, partial(_run, render(f"tables/{template}", **values)))


def _changing(where: dict[str, str], change: str) -> str:
    return render("tables/change_column", change=SQL(change), **where)


def _run(statement: str, editor: Editor) -> None:
    execute(editor, [statement])
