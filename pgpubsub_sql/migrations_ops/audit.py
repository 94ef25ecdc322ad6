"""Comparison of a database with the code and the migrations, and what to run if they differ."""

from __future__ import annotations

import dataclasses
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState

from pgpubsub_sql.django_internals import LoadedMigrations, Node, table_of
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops.applying import Schemas, find_schemas, is_allowed
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers
from pgpubsub_sql.migrations_ops.predecessor_problems import predecessor_problems
from pgpubsub_sql.migrations_ops.problems import (
    DIAGNOSES,
    InstallState,
    Problem,
    differing,
    missing_migrations,
)
from pgpubsub_sql.migrations_ops.recorded_triggers import Key, Triggers, recorded_triggers
from pgpubsub_sql.migrations_ops.replication import replication_problems
from pgpubsub_sql.migrations_ops.shared_faults import Fault, find_faults
from pgpubsub_sql.migrations_ops.stale_labels import load_migrations
from pgpubsub_sql.migrations_ops.subscriptions import undeclared_problems
from pgpubsub_sql.migrations_ops.watched_tables import find_target, misfit
from pgpubsub_sql.sql.catalogue import InstalledFunction, InstalledTrigger, installed_functions
from pgpubsub_sql.sql.comparison import FunctionDefinition
from pgpubsub_sql.sql.ddl import Target, wanted_function, wanted_triggers
from pgpubsub_sql.sql.privileges import Missing, missing_privileges
from pgpubsub_sql.sql.readiness import check_postgresql, check_ready
from pgpubsub_sql.sql.trigger import Trigger


class Leftover(NamedTuple):
    """An installed function that nothing needs any more."""

    function: InstalledFunction
    reason: str
    """Why it counts as this project's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """One database, compared with the project. Triggers are by app label and channel."""

    alias: str
    """The database."""
    schema: str
    """Schema of our own tables and helpers, or where they should be."""
    declared: Triggers
    """Triggers that the code declares in apps that have migrations."""
    recorded: Triggers
    """Triggers after all migrations."""
    applied: Triggers
    """Triggers after the migrations that have run here."""
    unapplied: Sequence[Node]
    """Migrations of any app that have not run here."""
    unmigrated: Triggers
    """Triggers that the code declares in apps without migrations."""
    known_apps: Collection[str]
    """Labels of this project's apps, except those that a newer release has migrated further."""
    last_migrations: Mapping[Key, Node]
    """For each channel in this project's migrations, the last one that concerns it."""
    state: ProjectState
    """Models after the migrations that have run here."""
    functions: Mapping[str, InstalledFunction]
    """Installed channel functions, by name."""
    targets: Mapping[Key, Target]
    """Where each expected trigger is, or is to be."""
    misfits: Mapping[Key, str]
    """Why a trigger cannot use the columns that it names."""
    faults: Sequence[Fault]
    """Faults in what all channels share."""
    missing: Sequence[Missing]
    """Missing privileges that make writes fail."""
    replication: Sequence[Problem]
    """Channels that send nothing for what logical replication writes."""
    undeclared: Sequence[Problem]
    """Subscriptions for which messages are stored, and that no listener declares."""
    predecessor: Sequence[Problem]
    """What django-pgpubsub has left that breaks writes, or sends or loses messages."""

    @cached_property
    def _needed(self) -> Triggers:
        """Triggers that should be installed once their model exists."""
        return self.applied | self.unmigrated

    @cached_property
    def expected(self) -> Triggers:
        """Triggers that should be installed now: those whose model exists."""
        return {key: self._needed[key] for key in self._needed if key in self.targets}

    def function_of(self, key: Key) -> InstalledFunction | None:
        """Return the installed function of an expected channel, whoever installed it."""
        function = self.functions.get(self.expected[key].function)
        return function if function and function.schema == self.targets[key].schema else None

    def state_of(self, key: Key) -> InstallState:
        """Return the state of an expected channel."""
        return self._states[key][0]

    def reason_of(self, key: Key) -> str:
        """Return why an expected channel is in its state; empty if the state says it all."""
        return self._states[key][1]

    @cached_property
    def _states(self) -> dict[Key, tuple[InstallState, str]]:
        """States and reasons, computed once: rendering a function takes milliseconds."""
        return {key: self._judge(key) for key in self.expected}

    def _judge(self, key: Key) -> tuple[InstallState, str]:
        if not self.targets[key].table_oid:
            return InstallState.TABLELESS, ""
        function = self.function_of(key)
        if function is None:
            return InstallState.MISSING, ""
        if self._is_foreign(key, function):
            return (
                InstallState.FOREIGN,
                f"the channel {function.channel} of the app {function.app!r}",
            )
        return self._compare(key, function)

    def _compare(self, key: Key, function: InstalledFunction) -> tuple[InstallState, str]:
        there = self._triggers_there(key, function)
        if wanted_triggers(self.expected[key], self.targets[key]).keys() - there.keys():
            return InstallState.MISSING, ""
        wanted = wanted_function(self.expected[key], self.targets[key])
        if key in self.misfits and function.definition.source == wanted.source:
            return InstallState.STALE, self.misfits[key]  # install would be refused
        if differences := list(self._differences(key, function, wanted)):
            return InstallState.OUTDATED, "; ".join(differences)
        if any(trigger.is_silent for trigger in there.values()):
            return InstallState.DISABLED, ""
        if key[1] in self._denied:
            return InstallState.DENIED, ""
        return InstallState.INSTALLED, ""

    @cached_property
    def _denied(self) -> Collection[str | None]:
        """Names of channels that lack privileges."""
        return {one.channel for one in self.missing}

    def installable(self) -> list[Key]:
        """Return the channels that should be installed and can be."""
        repairable = (InstallState.MISSING, InstallState.OUTDATED)
        return [key for key in sorted(self.expected) if self.state_of(key) in repairable]

    def surplus_triggers(self, key: Key) -> list[InstalledTrigger]:
        """Return the triggers of a channel that installing it would not replace."""
        function, target = self.function_of(key), self.targets[key]
        wanted = wanted_triggers(self.expected[key], target)
        return [
            one
            for one in (function.triggers if function else ())
            if one.name not in wanted
            or one.table_oid != target.table_oid
            or not one.definition.is_plain
        ]

    def surplus_functions(self, key: Key) -> list[InstalledFunction]:
        """Return the functions of a channel whose name is not the expected one."""
        name = self.expected[key].function
        return [one for one in self._functions_of[key] if one.is_current and one.name != name]

    @cached_property
    def _functions_of(self) -> Mapping[Key | None, Sequence[InstalledFunction]]:
        """Installed functions by the app and the channel that they name."""
        found: dict[Key | None, list[InstalledFunction]] = defaultdict(list)
        for function in self.functions.values():
            found[_key(function)].append(function)
        return found

    @cached_property
    def leftovers(self) -> Sequence[Leftover]:
        """What this project has installed in this schema and does not need any more."""
        wanted = {trigger.function for trigger in self._needed.values()}
        by_function = {
            Trigger(channel=key[1], model="").function: key for key in self.last_migrations
        }
        found = []
        for name, function in self.functions.items():
            if function.is_current and name not in wanted:
                key = _key(function) or by_function.get(name)
                if key and (reason := self._claim(key)):
                    found.append(Leftover(function, reason))
        return found

    @cached_property
    def owned(self) -> Mapping[str, InstalledFunction]:
        """The functions that this project may change, by channel."""
        left = [one.function for one in self.leftovers]
        found = {one.channel or one.name: one for one in left}
        for key in self.expected:
            function = self.function_of(key)
            if function and not self._is_foreign(key, function):
                found[key[1]] = function
        return found

    def missing_for(self, channels: Iterable[str]) -> list[Missing]:
        """Return the privileges missing for these channels, or for what all channels share."""
        about = {None, *channels}
        return [one for one in self.missing if one.channel in about]

    def all_problems(self) -> Iterator[Problem]:
        """Yield all differences, in the order in which to resolve them."""
        yield from missing_migrations(self.declared, self.recorded)
        yield from self.unapplied_problems()
        yield from self.installed_problems()
        yield from self.undeclared
        yield from self.replication
        yield from self.predecessor

    def unapplied_problems(self) -> Iterator[Problem]:
        """Yield the channels whose migrations have not run on this database."""
        for _, channel in differing(self.recorded, self.applied):
            text = "has migrations that have not run on this database"
            # The migrations may be another app's, such as one that renames the model.
            yield Problem(channel, text, f"Run: python manage.py migrate{self._database}")

    def installed_problems(self) -> Iterator[Problem]:
        """Yield what differs in the database from what the migrations that have run leave there."""
        for fault in self.faults:
            remedy = f"Run: python manage.py pgpubsub install{self._database}"
            yield Problem("", fault.text, remedy)
        for key in sorted(self.expected):
            yield from self._diagnosis(key[1], self.state_of(key), self.reason_of(key))
        for one in self.missing:
            install = f"python manage.py pgpubsub install{self._database}"
            grant = f"Run: {install}\nIt executes: {' '.join(one.statements)}"
            remedy = grant if one.is_ours_to_give else one.remedy
            text = one.text if one.channel else f"pgpubsub_sql {one.text}"
            yield Problem(one.channel or "", text, remedy)
        for function, reason in self.leftovers:
            yield from self._diagnosis(
                function.channel or function.name, InstallState.LEFTOVER, reason
            )

    def _diagnosis(self, channel: str, state: InstallState, reason: str) -> Iterator[Problem]:
        if state in DIAGNOSES:
            text, remedy = DIAGNOSES[state]
            names = {"channel": shlex.quote(channel), "database": self._database}
            yield Problem(channel, text.format(reason=reason), remedy.format(**names))

    def _is_foreign(self, key: Key, function: InstalledFunction) -> bool:
        """Whether *function* names another app or channel, and has triggers on another table."""
        if _key(function) in (None, key):
            return False
        tables = {trigger.table_oid for trigger in function.triggers}
        return tables != {self.targets[key].table_oid}

    def _triggers_there(self, key: Key, function: InstalledFunction) -> dict[str, InstalledTrigger]:
        table = self.targets[key].table_oid
        return {one.name: one for one in function.triggers if one.table_oid == table}

    def _differences(
        self, key: Key, function: InstalledFunction, definition: FunctionDefinition
    ) -> Iterator[str]:
        trigger, target = self.expected[key], self.targets[key]
        found = list(function.definition.differences(definition))
        if found:
            yield f"the function {function.name} differs ({', '.join(found)})"
        if function.is_public:
            yield f"every role may execute the function {function.name}"
        wanted = wanted_triggers(trigger, target)
        for one in function.triggers:
            if one.name not in wanted or one.table_oid != target.table_oid:
                yield f"the trigger {one.name} on {one.table} should not be there"
                continue
            for difference in one.definition.differences(wanted[one.name]):
                yield f"the trigger {one.name} {difference}"
        for other in self.surplus_functions(key):
            yield f"the function {other.name} should be called {trigger.function}"

    def _claim(self, key: Key) -> str:
        """Return why a function of *key* is this project's leftover; empty if it may not be."""
        if key in self._needed:
            return "its function has another name"
        if node := self.last_migrations.get(key):
            return f"the migration {'.'.join(node)} names it, and no listener needs it"
        if key[0] in self.known_apps:
            return f"it belongs to the app {key[0]!r}, and no migration or listener of it needs it"
        return ""

    @property
    def _database(self) -> str:
        """The option of a command that selects this database."""
        return database_option(self.alias)


def database_option(alias: str) -> str:
    """Return the option of a command that selects the database *alias*."""
    return "" if alias == DEFAULT_DB_ALIAS else f" --database {shlex.quote(alias)}"


def unwritten_problems() -> Iterator[Problem]:
    """Yield the differences between code and migrations, without a database.

    Raises :class:`NotReady` if the migrations cannot be loaded.
    """
    migrations = load_migrations()
    wanted = declared_triggers()
    migrated = {key: wanted[key] for key in wanted if key[0] not in migrations.unmigrated_apps}
    yield from missing_migrations(migrated, recorded_triggers(migrations.graph).triggers)


def audit(connection: BaseDatabaseWrapper) -> Audit:
    """Compare the database of *connection* with the project.

    Raises :class:`NotReady` if it is not PostgreSQL, our own migrations have not run there, or
    the project's cannot be loaded.
    """
    migrations = _load(connection)
    schemas = find_schemas(connection)
    state = migrations.applied_state()
    wanted = _here(connection, state, declared_triggers())
    unmigrated = {key: wanted[key] for key in wanted if key[0] in migrations.unmigrated_apps}
    recorded = recorded_triggers(migrations.graph)
    applied = recorded_triggers(migrations.graph, migrations.applied)
    installed = _here(connection, state, applied.triggers)
    schema = schemas.helpers or schemas.current
    functions = installed_functions(connection)
    targets, misfits = _targets(connection, state, schemas, functions, installed | unmigrated)
    faults = find_faults(connection, schema)
    there = [
        (trigger, targets[key])
        for key, trigger in (installed | unmigrated).items()
        if key in targets and targets[key].table_oid and trigger.function in functions
    ]
    return Audit(
        alias=connection.alias,
        schema=schema,
        declared={key: wanted[key] for key in wanted.keys() - unmigrated.keys()},
        recorded=_here(connection, state, recorded.triggers),
        applied=installed,
        unapplied=sorted(migrations.graph.nodes.keys() - {*migrations.applied}),
        unmigrated=unmigrated,
        known_apps=_known_apps(migrations),
        last_migrations=recorded.last_migrations,
        state=state,
        functions=functions,
        targets=targets,
        misfits=misfits,
        faults=faults,
        missing=[] if faults else missing_privileges(connection, there, helpers=schema),
        replication=list(replication_problems(connection, (installed | unmigrated).values())),
        undeclared=list(undeclared_problems(connection, database_option(connection.alias))),
        predecessor=list(predecessor_problems(connection)),
    )


def _load(connection: BaseDatabaseWrapper) -> LoadedMigrations:
    """Load the migrations and what has run here, if ours has; its tables may be gone since."""
    check_postgresql(connection)
    migrations = load_migrations(connection)
    if not any(label == APP for label, _ in migrations.applied):
        check_ready(connection)
    return migrations


def _known_apps(migrations: LoadedMigrations) -> set[str]:
    """Return the labels of the project's apps without those that a newer release has migrated.

    What the newer release has installed is no leftover.
    """
    ahead = {node[0] for node in migrations.applied if node not in migrations.on_disk}
    return {config.label for config in apps.get_app_configs()} - ahead


def _here(connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers) -> Triggers:
    """Return the triggers whose tables are on this database."""
    return {
        key: trigger for key, trigger in triggers.items() if is_allowed(connection, state, trigger)
    }


def _targets(
    connection: BaseDatabaseWrapper,
    state: ProjectState,
    schemas: Schemas,
    functions: Mapping[str, InstalledFunction],
    triggers: Triggers,
) -> tuple[dict[Key, Target], dict[Key, str]]:
    """Return where each trigger is, and why some cannot use the columns that they name.

    Triggers are left out whose model does not exist yet, or any more.
    """
    targets, misfits = {}, {}
    for key, trigger in triggers.items():
        try:
            db_table = table_of(state, trigger.model)
        except LookupError:
            continue
        names: dict[str, Any] = {"helpers": schemas.helpers or schemas.current, "app": key[0]}
        try:
            target = find_target(connection, trigger, db_table, schema=schemas.current, **names)
        except NotReady as error:  # it is not a table any more, so it has no triggers
            targets[key] = Target(db_table=db_table, schema=schemas.current, **names)
            misfits[key] = str(error)
            continue
        targets[key] = _with_schema_of(functions.get(trigger.function), target)
        if reason := misfit(connection, trigger, targets[key]):
            misfits[key] = reason.partition("\n")[0]
    return targets, misfits


def _with_schema_of(function: InstalledFunction | None, target: Target) -> Target:
    """Return *target* with the schema of the function, if that serves no other table.

    :func:`~pgpubsub_sql.migrations_ops.applying.find_schemas` would ask the database once more.
    """
    tables = {trigger.table_oid for trigger in function.triggers} if function else set()
    if function is None or (target.table_oid and tables - {target.table_oid}):
        return target
    return dataclasses.replace(target, schema=function.schema)


def _key(function: InstalledFunction) -> Key | None:
    """Return the app and the channel that the function's body names."""
    return (function.app, function.channel) if function.app and function.channel else None
