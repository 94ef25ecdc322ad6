"""Django's private API: whatever this package uses of Django that Django does not document.

Each function says what it relies on. All of it is the same in Django 5.2, 6.0 and 6.1: compare this
file with the source of the next release before it is supported.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import logging
import traceback
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from django.apps import apps
from django.conf import SettingsReference
from django.core.management.base import BaseCommand
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.postgresql.base import Cursor
from django.db.backends.postgresql.psycopg_any import is_psycopg3 as is_psycopg3  # or psycopg2
from django.db.backends.utils import truncate_name
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.autodetector import OperationDependency as OperationDependency
from django.db.migrations.exceptions import NodeNotFoundError
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.base import OperationCategory as OperationCategory
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import IndexOperation, ModelOptionOperation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models import Field, Model, QuerySet
from django.db.models.base import ModelBase, ModelState
from django.db.models.expressions import Col
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init
from django.db.models.sql import Query
from django.utils import autoreload

Callback = Callable[[], None]

logger = logging.getLogger("django.db.backends.base")
"""Where Django logs what robust callbacks raise."""

# --- Connections

CURSOR: type[Any] = Cursor
"""Class of the cursors that Django has the driver make, unless settings or tools say otherwise."""


def new_wrapper(using: str, settings: dict[str, Any]) -> Any:
    """Return another wrapper of an alias, not connected: ``DatabaseWrapper(settings, alias)``."""
    return type(connections[using])(settings, using)


def connect_under(wrapper: Any, alias: str) -> None:
    """Have *wrapper* be called *alias* while it connects: ``get_new_connection()``."""
    connect, usual = wrapper.get_new_connection, wrapper.alias

    def get_new_connection(parameters: dict[str, Any]) -> Any:
        wrapper.alias = alias
        try:
            return connect(parameters)
        finally:
            wrapper.alias = usual

    wrapper.get_new_connection = get_new_connection


def copy_settings(wrapper: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the connection's settings with other OPTIONS: ``settings_dict``."""
    return {**wrapper.settings_dict, "OPTIONS": options}


def options_of(wrapper: Any) -> dict[str, Any]:
    """Return a copy of the OPTIONS of the connection's settings: ``settings_dict``."""
    return dict(wrapper.settings_dict["OPTIONS"])


def replace_settings(wrapper: Any, settings: dict[str, Any]) -> None:
    """Have the next connection opened with other *settings*: ``settings_dict``."""
    wrapper.settings_dict = settings


def ensure_connected(wrapper: Any) -> None:
    """Open the connection unless it is open: ``ensure_connection()``."""
    wrapper.ensure_connection()


def is_usable(wrapper: Any) -> bool:
    """Return whether the connection still works, which takes a query: ``is_usable()``."""
    return bool(wrapper.is_usable())


def close_if_old(wrapper: Any) -> None:
    """Close the connection if it is broken or too old: ``close_if_unusable_or_obsolete()``."""
    wrapper.close_if_unusable_or_obsolete()


def has_pool(wrapper: Any) -> bool:
    """Whether the settings ask for a pool: ``OPTIONS["pool"]``, as the backend reads it."""
    return bool(options_of(wrapper).get("pool"))


def close_pool(wrapper: Any) -> None:
    """Close the pool that Django keeps for an alias, if it has one: ``close_pool()``.

    An engine with a pool of its own may call that ``pool``, too; closing its connections closes it.
    """
    if has_pool(wrapper):
        wrapper.close_pool()


def driver_error(using: str) -> type[Exception]:
    """Return the driver's base class of errors: ``wrapper.Database.Error``."""
    wrapper: Any = connections[using]
    return cast(type[Exception], wrapper.Database.Error)


def database_errors(wrapper: Any) -> AbstractContextManager[None]:
    """Raise the driver's errors as Django's within the block: ``wrap_database_errors``."""
    return cast(AbstractContextManager[None], wrapper.wrap_database_errors)


def forget_queries(wrapper: Any) -> None:
    """Empty the log of queries that DEBUG fills: ``queries_log``.

    ``force_debug_cursor`` says that a test reads it.
    """
    if not wrapper.force_debug_cursor:
        wrapper.queries_log.clear()


@contextmanager
def execute_wrapper(wrapper: Any, function: Any) -> Iterator[int]:
    """Put *function* around the queries within the block: ``execute_wrappers``.

    Yield how many such functions there are then. Those that others add inside end with the block.
    """
    before = list(wrapper.execute_wrappers)
    wrapper.execute_wrappers.append(function)
    try:
        yield len(wrapper.execute_wrappers)
    finally:
        wrapper.execute_wrappers[:] = before


def drop_execute_wrappers(wrapper: Any, first: int) -> None:
    """Remove what is around queries from the *first* on: ``execute_wrappers``."""
    del wrapper.execute_wrappers[first:]


def keep_execute_wrappers(wrapper: Any, keeps: Callable[[Any], bool]) -> None:
    """Remove what is around queries unless *keeps* says otherwise: ``execute_wrappers``."""
    wrapper.execute_wrappers = [one for one in wrapper.execute_wrappers if keeps(one)]


# --- Transactions


def is_in_autocommit(wrapper: Any) -> bool:
    """Return whether Django believes that the connection is in autocommit mode: ``autocommit``."""
    return bool(wrapper.autocommit)


def is_in_atomic_block(wrapper: Any) -> bool:
    """Return whether the connection is inside an atomic block: ``in_atomic_block``."""
    return bool(wrapper.in_atomic_block)


class AtomicState(NamedTuple):
    """What Django knows of the atomic blocks that a connection is in."""

    savepoints: int
    """Length of ``savepoint_ids``: one for each block inside another."""
    blocks: int
    """Length of ``atomic_blocks``: the blocks that were entered and not left."""
    is_closed: bool
    """``closed_in_transaction``: the connection was closed inside a block."""
    needs_rollback: bool
    """``needs_rollback``: the innermost block will roll back."""


def atomic_state(wrapper: Any) -> AtomicState:
    """Return the state of *wrapper*'s atomic blocks."""
    return AtomicState(
        len(wrapper.savepoint_ids),
        len(wrapper.atomic_blocks),
        wrapper.closed_in_transaction,
        wrapper.needs_rollback,
    )


def is_unchanged(wrapper: Any, state: AtomicState, callbacks: int, wrappers: int) -> bool:
    """Return whether all that Django keeps of a transaction is as it was. For each message: quick.

    *callbacks* is what :func:`count_callbacks` has returned, *wrappers* what
    :func:`execute_wrapper` has yielded.
    """
    return (
        len(wrapper.run_on_commit) == callbacks
        and len(wrapper.execute_wrappers) == wrappers
        and len(wrapper.savepoint_ids) == state.savepoints
        and len(wrapper.atomic_blocks) == state.blocks
        and not wrapper.closed_in_transaction
        and not wrapper.needs_rollback
    )


def count_blocks(wrapper: Any) -> int:
    """Return how many atomic blocks were entered and not left: ``atomic_blocks``."""
    return len(wrapper.atomic_blocks)


def savepoints(wrapper: Any) -> list[str]:
    """Return the names of the savepoints of open blocks: ``savepoint_ids``."""
    return [name for name in wrapper.savepoint_ids if name is not None]


def leave_blocks(wrapper: Any, state: AtomicState) -> None:
    """Forget the blocks that were entered since *state*: ``savepoint_ids``, ``atomic_blocks``."""
    del wrapper.savepoint_ids[state.savepoints :]
    del wrapper.atomic_blocks[state.blocks :]


def unmark_rollback(wrapper: Any) -> None:
    """Let the innermost block commit, in or out of a block: ``needs_rollback``."""
    wrapper.needs_rollback = False


def leave_transaction(wrapper: Any) -> None:
    """Have Django believe that no block is open: ``in_atomic_block``, ``needs_rollback``.

    A connection that is closed inside a block stays unusable until the block ends.
    """
    wrapper.in_atomic_block = wrapper.needs_rollback = False


def atomic(using: str, *, admits_durable: bool) -> transaction.Atomic:
    """Return an atomic block, which may have durable blocks inside: ``Atomic._from_testcase``.

    That is how ``TestCase`` puts a transaction around durable blocks.
    """
    block = transaction.atomic(using=using)
    block._from_testcase = admits_durable  # type: ignore[attr-defined]
    return block


def is_durability_error(error: RuntimeError) -> bool:
    """Whether ``Atomic.__enter__()`` itself raised it: a durable block is inside another."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is transaction.Atomic.__enter__.__code__


def count_callbacks(wrapper: Any) -> int:
    """Return how many callbacks wait for the commit: ``run_on_commit``."""
    return len(wrapper.run_on_commit)


def drop_callbacks(wrapper: Any, first: int) -> None:
    """Forget the callbacks from the *first* on: ``run_on_commit``."""
    del wrapper.run_on_commit[first:]


def replace_callbacks(
    wrapper: Any, first: int, replace: Callable[[Callback], Callback]
) -> list[Callback]:
    """Replace the callbacks from the *first* on; return the new ones.

    ``run_on_commit`` has tuples of the savepoints around a callback, the callback, and ``robust``.
    """
    waiting = wrapper.run_on_commit
    waiting[first:] = [(within, replace(call), robust) for within, call, robust in waiting[first:]]
    return [call for _, call, _ in waiting[first:]]


def take_callbacks(wrapper: Any, first: int) -> list[Callback]:
    """Remove and return the callbacks from the *first* on: ``run_on_commit``.

    The errors of robust ones are logged, as ``run_and_clear_commit_hooks()`` does.
    """
    taken = wrapper.run_on_commit[first:]
    del wrapper.run_on_commit[first:]
    return [_robust(call) if robust else call for _, call, robust in taken]


def _robust(call: Callback) -> Callback:
    def guarded() -> None:
        try:
            call()
        except Exception:
            logger.exception("Error calling %r in on_commit().", call)

    return guarded


# --- Models


def set_database(instance: Model, using: str) -> None:
    """Let an instance that was not read from a database belong to one: ``_state.db``."""
    instance._state.db = using


def is_built_as_usual(model: type[Model]) -> bool:
    """Return whether ``Model.from_db()`` does no more for *model* than :func:`build_as_usual` does.

    ``from_db()``, ``__init__()`` and ``__setattr__()`` must be those of ``Model``, which has to be
    the last class with an ``__init__()``, and each field's attribute a plain ``DeferredAttribute``,
    which setting a value replaces in the instance's ``__dict__``.
    """
    method: Any = model.from_db
    own = (model.__init__, model.__setattr__, model.__new__, type(model).__call__)
    usual = (Model.__init__, object.__setattr__, object.__new__, ModelBase.__call__)
    after = model.__mro__[model.__mro__.index(Model) + 1 : -1]
    return (
        method.__func__ is cast(Any, Model.from_db).__func__
        and own == usual
        and not any("__init__" in vars(cls) for cls in after)
        and all(
            type(inspect.getattr_static(model, field.attname)) in _PLAIN_ATTRIBUTES
            for field in model._meta.concrete_fields
        )
    )


_PLAIN_ATTRIBUTES = (DeferredAttribute, ForeignKeyDeferredAttribute)


def has_init_receivers(model: type[Model]) -> bool:
    """Return whether ``pre_init`` or ``post_init`` has a receiver for *model*."""
    if not (pre_init.receivers or post_init.receivers):  # for each row: quick
        return False
    return pre_init.has_listeners(model) or post_init.has_listeners(model)


def build_as_usual(
    model: type[Model], using: str, names: Iterable[str], values: Iterable[Any]
) -> Model:
    """Return what ``Model.from_db()`` returns, without its calls: ``_state``, ``ModelState``."""
    state = ModelState()
    state.adding = False
    state.db = using
    instance = object.__new__(model)
    attributes = instance.__dict__
    attributes["_state"] = state
    attributes.update(zip(names, values, strict=True))
    return instance


def compile_where(found: QuerySet[Any], using: str) -> tuple[str, tuple[Any, ...]]:
    """Return the WHERE clause of a query set and its parameters: ``SQLCompiler.compile()``.

    Raises ``EmptyResultSet`` or ``FullResultSet`` for a condition that is always false or true.
    """
    text, values = found.query.get_compiler(using).compile(found.query.where)
    return text, tuple(values)


def as_read(moment: datetime.datetime, wrapper: BaseDatabaseWrapper) -> datetime.datetime:
    """Return an aware *moment* as a query would: ``timezone``, ``timezone_name`` of the wrapper."""
    if wrapper.timezone is not None:
        return moment.astimezone(wrapper.timezone)
    here = zoneinfo.ZoneInfo(wrapper.timezone_name)  # USE_TZ = False
    return moment.astimezone(here).replace(tzinfo=None)


def for_write(found: QuerySet[Any]) -> str:
    """Return the database to which *found* is written, as for ``update()``: ``_for_write``."""
    found._for_write = True  # type: ignore[attr-defined]
    return found.db


def deferred_field_read(error: BaseException) -> Field[Any, Any] | None:
    """Return the deferred field whose reading raised *error*: ``DeferredAttribute.__get__()``."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is DeferredAttribute.__get__.__code__:
            field: Field[Any, Any] = frame.f_locals["self"].field
            return field
    return None


class SelectedField(NamedTuple):
    """How a query set selects a field."""

    expression: Col
    sql: str
    params: tuple[Any, ...]
    converters: tuple[Callable[[Any, Col, BaseDatabaseWrapper], Any], ...]
    """The backend's and the field's, which turn the driver's value into the field's."""


def selection_of(field: Any, column: str, wrapper: BaseDatabaseWrapper) -> SelectedField | None:
    """Return how a query set would select *field* from *column*; None if by another expression.

    ``Field.get_col()``, ``Col.select_format()`` and ``get_db_converters()`` of backend and column.
    """
    expression = field.get_col(field.model._meta.db_table)
    if type(expression) is not Col:
        return None
    compiler = Query(field.model).get_compiler(connection=wrapper)
    sql, params = expression.select_format(compiler, column, ())
    converters = (
        *wrapper.ops.get_db_converters(expression),
        *expression.get_db_converters(wrapper),
    )
    return SelectedField(expression, sql, tuple(params), converters)


def swappable_setting(model: str) -> str | None:
    """Return the setting that swaps *model*, a label: ``apps.get_swappable_settings_name()``."""
    return apps.get_swappable_settings_name(model)


def as_in_migrations(model: str) -> str:
    """Return a model's label as migrations write it: ``SettingsReference`` if it is swappable."""
    setting = swappable_setting(model)
    return SettingsReference(model, setting) if setting else model


def is_restricted() -> bool:
    """Return whether a test's ``available_apps`` hide apps: ``apps.set_available_apps()``."""
    return bool(apps.stored_app_configs)


def app_label_of(module: str) -> str | None:
    """Return the label of the app that contains a module: ``apps.get_containing_app_config()``."""
    config = apps.get_containing_app_config(module)
    return config.label if config else None


# --- Migrations

Node = tuple[str, str]
"""App label and name of a migration, as ``MigrationGraph`` and ``MigrationLoader`` have it."""

INCONSISTENT = (NodeNotFoundError, ValueError)
"""What ``MigrationLoader`` raises for a missing dependency; the latter for ``__first__``."""

SINGLE_MODEL_OPERATIONS = (FieldOperation, IndexOperation, ModelOptionOperation)
"""Base classes of operations that change one model and leave its table where it is."""


@dataclass(frozen=True)
class LoadedMigrations:
    """The migrations of the project: ``MigrationLoader``."""

    graph: MigrationGraph
    on_disk: Mapping[Node, Migration]
    """``disk_migrations``"""
    applied: Collection[Node]
    """``applied_migrations``: those that have run on a database."""
    unmigrated_apps: set[str]
    """``unmigrated_apps``: labels of the apps that have no migrations."""

    @classmethod
    def load(cls, wrapper: BaseDatabaseWrapper | None = None) -> LoadedMigrations:
        """Return the migrations, and those applied to a database. Raises :data:`INCONSISTENT`."""
        return cls._of(MigrationLoader(wrapper))

    @classmethod
    def read(cls) -> LoadedMigrations:
        """Return the migrations without order, however inconsistent: ``load_disk()``."""
        loader = MigrationLoader(None, load=False)
        loader.load_disk()
        return cls._of(loader)

    @classmethod
    def _of(cls, loader: Any) -> LoadedMigrations:
        graph = getattr(loader, "graph", None) or MigrationGraph()
        applied = loader.applied_migrations or {}
        return cls(graph, loader.disk_migrations, applied, loader.unmigrated_apps)

    def applied_state(self) -> ProjectState:
        """Return the models after the applied migrations: ``MigrationGraph.make_state()``."""
        nodes = [node for node in self.graph.nodes if node in self.applied]
        if not nodes:
            return ProjectState(real_apps=self.unmigrated_apps)
        graph: Any = self.graph  # the stubs want a list of apps, Django passes a set
        return cast(ProjectState, graph.make_state(nodes, real_apps=self.unmigrated_apps))


def table_of(state: ProjectState, model: str) -> str:
    """Return the table of a model in *state*, as ``Options.contribute_to_class()`` names it.

    Most models need not be rendered for that: ``state.apps`` renders all of the project, which
    takes seconds in a large one. Raises ``LookupError`` for an unknown model.
    """
    label, _, name = model.partition(".")
    found = state.models.get((label, name.lower()))
    if found is None or found.options.get("proxy"):
        return str(state.apps.get_model(model)._meta.db_table)
    length = connections[DEFAULT_DB_ALIAS].ops.max_name_length()
    default = truncate_name(f"{label}_{name.lower()}", length)
    return str(found.options.get("db_table") or default)


def in_order(graph: MigrationGraph) -> Iterator[tuple[Node, Migration]]:
    """Yield all migrations, each after its dependencies: ``leaf_nodes()``, ``forwards_plan()``."""
    seen: set[Node] = set()
    for leaf in sorted(graph.leaf_nodes()):
        for node in graph.forwards_plan(leaf):
            migration = graph.nodes[node]
            if node not in seen and migration:
                seen.add(node)
                yield node, migration


def migrations_module(label: str) -> str | None:
    """Return the module of an app's migrations; None if the settings turn them off."""
    module, _ = MigrationLoader.migrations_module(label)
    return module


def applied_migration(wrapper: BaseDatabaseWrapper, node: Node) -> QuerySet[Any] | None:
    """Return the record of a migration, with ``applied``, if it has run: ``MigrationRecorder``."""
    recorder = MigrationRecorder(wrapper)
    if node not in recorder.applied_migrations():
        return None
    return recorder.migration_qs.filter(app=node[0], name=node[1])


def forget_migrations(wrapper: BaseDatabaseWrapper, label: str) -> bool:
    """Delete the records of all migrations of an app, if there are any: ``MigrationRecorder``."""
    return bool(MigrationRecorder(wrapper).migration_qs.filter(app=label).delete()[0])


def collected_sql(editor: BaseDatabaseSchemaEditor) -> list[str]:
    """Return the statements of an editor that only collects them: ``collected_sql``."""
    return list(editor.collected_sql)


# --- The autodetector of makemigrations

_Autodetector: Any = MigrationAutodetector
_GRAPH = "_pgpubsub_graph"
"""Our attribute of an autodetector: the graph of the migrations with which it compares."""


class Detection:
    """A run of the autodetector, which has found the changes of models."""

    def __init__(self, autodetector: Any) -> None:
        self._run = autodetector

    def renamed_models(self) -> Iterator[tuple[str, str]]:
        """Yield old and new labels, in lower case: ``renamed_models``."""
        for (label, new), old in self._run.renamed_models.items():
            yield f"{label}.{old}".lower(), f"{label}.{new}".lower()

    def operations_of(self, label: str) -> list[Operation]:
        """Return the operations found for an app: ``generated_operations``."""
        return list(self._run.generated_operations.get(label, ()))

    def had_model(self, label: str, name: str) -> bool:
        """Whether the migrations so far know a model: ``from_state``."""
        state = self._run.from_state
        return (label, name) in state.models or label in state.real_apps

    def old_model(self, model: str) -> type[Model]:
        """Return a model as the migrations so far have it. Raises :class:`LookupError`."""
        found: type[Model] = self._run.from_state.apps.get_model(model)
        return found

    def add(
        self,
        label: str,
        operation: Operation,
        dependencies: Iterable[OperationDependency],
        *,
        first: bool = False,
    ) -> None:
        """Add an operation for an app, last or *first*: ``add_operation()``."""
        self._run.add_operation(label, operation, dependencies=[*dependencies], beginning=first)


def wait(operation: Any, dependency: OperationDependency) -> None:
    """Let an operation that was found come after *dependency*, too: ``_auto_deps``."""
    operation._auto_deps = [*operation._auto_deps, dependency]


def dependency(label: str, name: str, kind: Any) -> OperationDependency:
    """Return a dependency on a model of an app; *kind* may be ours."""
    return OperationDependency(label, name, None, kind)


def creation(label: str, name: str) -> OperationDependency:
    """Return the dependency on the operation that creates a model."""
    return dependency(label, name, OperationDependency.Type.CREATE)


def swappable_dependency(model: str) -> OperationDependency | None:
    """Return the dependency on the model of a setting, if *model* is swappable: ``__setting__``."""
    name = swappable_setting(model)
    return creation("__setting__", name) if name else None


def is_swappable(dependency: OperationDependency) -> bool:
    """Whether :func:`swappable_dependency` made it."""
    return dependency.app_label == "__setting__"


def extend_autodetector(
    add_operations: Callable[[Detection, MigrationGraph], None],
    is_required: Callable[[Operation, OperationDependency], bool | None],
) -> None:
    """Extend Django's autodetector, once: further calls change nothing.

    *add_operations* is called with each run that compares with migrations. *is_required* says
    whether an operation must come before another because of a dependency; None leaves it to Django.
    """
    if hasattr(_Autodetector, _GRAPH):
        return
    setattr(_Autodetector, _GRAPH, None)
    detect, sort = _Autodetector._detect_changes, _Autodetector._sort_migrations
    check = _Autodetector.check_dependency

    @functools.wraps(detect)
    def _detect_changes(
        self: Any, convert_apps: Any = None, graph: MigrationGraph | None = None
    ) -> Any:
        setattr(self, _GRAPH, graph)
        # Django takes an app without models for a new one, whose next migration is its initial one.
        self.existing_apps |= {label for label, _ in graph.nodes} if graph else set()
        return detect(self, convert_apps, graph)

    @functools.wraps(sort)
    def _sort_migrations(self: Any) -> None:
        sort(self)
        # Without a graph, two states are compared: only models matter.
        if (graph := getattr(self, _GRAPH)) is not None:
            add_operations(Detection(self), graph)

    @functools.wraps(check)
    def check_dependency(self: Any, operation: Operation, dependency: Any) -> bool:
        found = None
        if isinstance(dependency, OperationDependency):  # others may be plain tuples
            found = is_required(operation, dependency)
        return bool(check(self, operation, dependency)) if found is None else found

    for method in (_detect_changes, _sort_migrations, check_dependency):
        setattr(_Autodetector, method.__name__, method)


# --- Commands


def is_called_from_command_line(command: BaseCommand) -> bool:
    """Whether ``manage.py`` runs *command*, rather than code: ``run_from_argv()`` notes that."""
    return bool(getattr(command, "_called_from_command_line"))  # noqa: B009 - the stubs lack it


def command_line() -> list[str]:
    """Return what starts this command anew: ``get_child_arguments()``.

    Raises :class:`RuntimeError` if no file or module is known that has started it.
    """
    return [str(word) for word in autoreload.get_child_arguments()]


def watched_files() -> autoreload.StatReloader:
    """Return what lists the files of loaded modules, and those that the project has added.

    Receivers of ``autoreload_started`` add them, among them Django's own for templates and
    translations. ``snapshot_files()`` yields each with the time of its last change.
    """
    reloader = autoreload.StatReloader()
    autoreload.autoreload_started.send(sender=reloader)
    return reloader
