"""Removal of this package from a project that keeps its tables and its migrations.

``manage.py pgpubsub leave`` edits the source of the project's migrations; ``migrate pgpubsub_sql
zero`` is refused as long as it would destroy something of the project's.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from pgpubsub_sql.channels import declared_channels, dotted_path
from pgpubsub_sql.django_internals import LoadedMigrations
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops.stale_labels import triggers_on_disk
from pgpubsub_sql.sql import render
from pgpubsub_sql.sql.catalogue import InstalledFunction, installed_functions
from pgpubsub_sql.sql.readiness import check_ready

_SHOWN = 5
"""Number of names that a message lists at most."""
_COMMA = re.compile(rb"[ \t]*,?[ \t]*")
_END_OF_LINE = re.compile(rb"(?:#[^\r\n]*)?(?:\r?\n|\r|\Z)")


def refuse_unsafe_unapply(
    using: str, plan: Iterable[tuple[Migration, bool]] = (), **kwargs: Any
) -> None:
    """Stop ``migrate pgpubsub_sql zero`` before it drops anything of the project's."""
    unapplied = [migration for migration, backwards in plan if backwards]
    if not any(migration.app_label == APP for migration in unapplied):
        return
    if others := [str(one) for one in unapplied if one.app_label != APP]:
        raise CommandError(
            f"Django would first unapply the migrations that depend on {APP}, and drop their "
            f"tables: {_listed(others)}. To remove {APP} and keep the tables, run: python "
            "manage.py pgpubsub leave. To unapply them after all, migrate their apps to zero first."
        )
    if functions := _installed(connections[using]):
        raise CommandError(
            f"Without the tables of {APP}, the triggers that are installed in the database "
            f"{using!r} would make every write fail. Run the migrations that remove the triggers. "
            f"If there are none any more, execute {_dropping(functions)}"
        )


def check_unused(connection: BaseDatabaseWrapper) -> None:
    """Raise :class:`NotReady`, saying what to do next, if the project still uses this package."""
    if paths := [dotted_path(channel) for channel in declared_channels()]:
        raise NotReady(
            f"Channels are still declared: {_listed(paths)}. Delete them and their listeners. Then "
            "run: python manage.py makemigrations, and python manage.py migrate"
        )
    if triggers := triggers_on_disk().triggers:
        raise NotReady(
            "The migrations still install the triggers of "
            f"{_listed(channel for _, channel in triggers)}. Run: python manage.py makemigrations, "
            "and python manage.py migrate"
        )
    if functions := _installed(connection):
        raise NotReady(
            f"Triggers are still installed in the database {connection.alias!r}. Run: python "
            f"manage.py migrate --database {connection.alias}. If some are left after that, "
            f"execute {_dropping(functions)}"
        )


def dependent_migrations() -> Iterator[Path]:
    """Yield the files of other apps' migrations that mention this package."""
    for (label, _), migration in sorted(LoadedMigrations.read().on_disk.items()):
        path = inspect.getsourcefile(sys.modules[migration.__module__])
        if label != APP and path and mentioning_lines(Path(path).read_bytes()):
            yield Path(path)


def _installed(connection: BaseDatabaseWrapper) -> list[InstalledFunction]:
    """Return the channel functions in the schema that *connection* works in."""
    try:
        schema = check_ready(connection)
    except NotReady:
        return []
    return [one for one in installed_functions(connection).values() if one.schema == schema]


def _dropping(functions: Iterable[InstalledFunction]) -> str:
    """Return the SQL that drops functions and the triggers that call them.

    Functions of apps that this project does not have are only named: they may be another project's.
    """
    labels = {None, *(config.label for config in apps.get_app_configs())}
    found = [*functions]
    ours = [one for one in found if one.app in labels]
    dropped = " ".join(
        render("triggers/drop_function", schema=one.schema, function=one.name) for one in ours
    )
    if len(ours) == len(found):
        return dropped
    others = _listed(one.name for one in found if one not in ours)
    more = f"(There are also functions of apps that this project does not have: {others}.)"
    return f"{dropped} {more}".lstrip()


def _listed(names: Iterable[str]) -> str:
    shown = [*names]
    return ", ".join(shown[:_SHOWN]) + (", …" if len(shown) > _SHOWN else "")


def mentioning_lines(source: bytes) -> list[int]:
    """Return the numbers of the lines that mention this package."""
    lines = enumerate(source.splitlines(), start=1)
    return [number for number, line in lines if APP.encode() in line]


def without_package(source: bytes) -> bytes:
    """Return *source* without our imports, our operations and dependencies on our migrations.

    Whatever it cannot remove stays, so the result may still mention this package.
    """
    tree = ast.parse(source)
    names = {name for statement in _imports(tree) for name in _bound(statement)}
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edited = source
    places = {(node.lineno, node.col_offset): node for node in _removable(tree, names)}
    for _, node in sorted(places.items(), reverse=True):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        edited = _cut(edited, first, last)
    return edited if _meaning(edited) == _meaning(source, names) else source


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the statements that import from this package only."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        if all(module.partition(".")[0] == APP for module in modules):
            yield node


def _bound(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in statement.names:
        yield alias.asname or alias.name.partition(".")[0]


def _removable(tree: ast.AST, names: set[str]) -> Iterator[ast.stmt | ast.expr]:
    yield from _imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple)):
            yield from (element for element in node.elts if _is_ours(element, names))


def _is_ours(element: ast.expr, names: set[str]) -> bool:
    """Whether *element* is one of our operations, or a dependency on one of our migrations."""
    match element:
        case ast.Tuple(elts=[ast.Constant(value=label), ast.Constant()]):
            return bool(label == APP)
        case ast.Call(func=function):
            while isinstance(function, ast.Attribute):
                function = function.value
            return isinstance(function, ast.Name) and function.id in names
    return False


def _cut(source: bytes, first: int, last: int) -> bytes:
    """Return *source* without this range, its comma and, if nothing else is on it, its line."""
    comma = _COMMA.match(source, last)
    last = comma.end() if comma else last
    line = source[:first].rstrip(b" \t")
    newline = _END_OF_LINE.match(source, last)
    if newline and (not line or line.endswith((b"\n", b"\r"))):
        return line + source[newline.end() :]
    return source[:first] + source[last:]


def _meaning(source: bytes, left_out: set[str] | None = None) -> str:
    """Return the syntax tree of *source* as text, without what would be removed from it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    if left_out is not None:
        removable = {id(node) for node in _removable(tree, left_out)}
        for node in ast.walk(tree):
            for name, value in ast.iter_fields(node):
                if isinstance(value, list):
                    setattr(node, name, [one for one in value if id(one) not in removable])
    return ast.dump(tree)
