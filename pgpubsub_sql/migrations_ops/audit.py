"""What should be installed on a database, what is, and what to run where the two differ."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops import history, shared
from pgpubsub_sql.migrations_ops.applying import find_schemas, is_allowed, nowhere, site_of
from pgpubsub_sql.migrations_ops.history import Key, Node, Triggers
from pgpubsub_sql.migrations_ops.labels import load
from pgpubsub_sql.migrations_ops.problems import ASTRAY, Problem, State
from pgpubsub_sql.migrations_ops.replication import untold
from pgpubsub_sql.migrations_ops.state import declared
from pgpubsub_sql.migrations_ops.tables import misfit
from pgpubsub_sql.sql.catalogue import InstalledFunction, InstalledTrigger, installed_functions
from pgpubsub_sql.sql.forms import FunctionForm
from pgpubsub_sql.sql.installing import Site, wanted_function, wanted_triggers
from pgpubsub_sql.sql.privileges import Missing, missing_privileges
from pgpubsub_sql.sql.readiness import check_postgresql, check_ready
from pgpubsub_sql.sql.trigger import Trigger


class Leftover(NamedTuple):
    """What nothing asks for any more."""

    function: InstalledFunction
    reason: str
    """Why this project takes it for its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """One database, compared with the project. Each mapping is by app label and channel."""

    alias: str
    """The database."""
    schema: str
    """Of our own tables and helpers, or where they should be."""
    declared: Triggers
    """What the code wants, in apps that have migrations."""
    recorded: Triggers
    """What is installed once every migration has run."""
    applied: Triggers
    """What the migrations that have run here have installed."""
    unmigrated: Triggers
    """What the code wants in apps that have no migrations."""
    known_apps: Collection[str]
    """Apps of this project of which nothing has run here that its code does not know."""
    made: Mapping[Key, Node]
    """Every channel that a migration of this project has to do with, and the last of these."""
    state: ProjectState
    """The models as the migrations applied here have them."""
    functions: Mapping[str, InstalledFunction]
    """What the catalogue has, by the name of the function."""
    sites: Mapping[Key, Site]
    """Where what is expected is, or is to be."""
    misfits: Mapping[Key, str]
    """Why what names columns of its table can do nothing with them."""
    faults: Sequence[shared.Fault]
    """What is wrong with what all channels share."""
    missing: Sequence[Missing]
    """Privileges whose lack makes writes fail."""
    untold: Sequence[Problem]
    """Of what logical replication brings."""

    @property
    def expected(self) -> Triggers:
        """What should be installed now: all whose model is there, whichever migration is next."""
        asked_for = self.applied | self.unmigrated
        return {key: asked_for[key] for key in asked_for if key in self.sites}

    def function_of(self, key: Key) -> InstalledFunction | None:
        """Return the function of a channel that is expected, whoever has made it so."""
        function = self.functions.get(self.expected[key].function)
        return function if function and function.schema == self.sites[key].schema else None

    def state_of(self, key: Key) -> State:
        """Return how the catalogue stands to one channel that is expected."""
        return self._judgements[key][0]

    def reason_of(self, key: Key) -> str:
        """Say why a channel that is expected is in its state, where there is more to say."""
        return self._judgements[key][1]

    @cached_property
    def _judgements(self) -> dict[Key, tuple[State, str]]:
        """States and reasons, found once: to render a function takes milliseconds."""
        return {key: self._judge(key) for key in self.expected}

    def _judge(self, key: Key) -> tuple[State, str]:
        if not self.sites[key].table_oid:
            return State.TABLELESS, ""
        function = self.function_of(key)
        if function is None:
            return State.MISSING, ""
        if self._is_foreign(key, function):
            return State.FOREIGN, f"the channel {function.channel} of the app {function.app!r}"
        return self._compare(key, function)

    def _compare(self, key: Key, function: InstalledFunction) -> tuple[State, str]:
        there = self._triggers_there(key, function)
        if wanted_triggers(self.expected[key], self.sites[key]).keys() - there.keys():
            return State.MISSING, ""
        wanted = wanted_function(self.expected[key], self.sites[key])
        if key in self.misfits and function.form.source == wanted.source:
            return State.STALE, self.misfits[key]  # install would be refused
        if differences := list(self._differences(key, function, wanted)):
            return State.OUTDATED, "; ".join(differences)
        if any(trigger.is_silent for trigger in there.values()):
            return State.DISABLED, ""
        if any(one.channel == key[1] for one in self.missing):
            return State.DENIED, ""
        return State.INSTALLED, ""

    def installable(self) -> list[Key]:
        """Return what is to be installed, and can be."""
        wanting = (State.MISSING, State.OUTDATED)
        return [key for key in sorted(self.expected) if self.state_of(key) in wanting]

    def surplus_triggers(self, key: Key) -> list[InstalledTrigger]:
        """Return the triggers of a channel that have to be dropped, as nothing replaces them."""
        function, site = self.function_of(key), self.sites[key]
        wanted = wanted_triggers(self.expected[key], site)
        return [
            one
            for one in (function.triggers if function else ())
            if one.name not in wanted or one.table_oid != site.table_oid or not one.form.is_plain
        ]

    def surplus_functions(self, key: Key) -> list[InstalledFunction]:
        """Return the functions of a channel that have another name than they should."""
        name = self.expected[key].function
        return [
            one
            for one in self.functions.values()
            if (one.app, one.channel) == key and one.is_current and one.name != name
        ]

    def leftovers(self) -> list[Leftover]:
        """Return what this project has installed in this schema and does not ask for any more."""
        asked_for = self.applied | self.unmigrated
        wanted = {trigger.function for trigger in asked_for.values()}
        makers = {Trigger(channel=key[1], model="").function: key for key in self.made}
        found = []
        for name, function in self.functions.items():
            if function.is_current and name not in wanted:
                key = _key(function) or makers.get(name)
                if key and (reason := self._claim(key)):
                    found.append(Leftover(function, reason))
        return found

    def owned(self) -> dict[str, InstalledFunction]:
        """Return the functions that are this project's to change, by channel."""
        left = [one.function for one in self.leftovers()]
        found = {one.channel or one.name: one for one in left}
        for key in self.expected:
            function = self.function_of(key)
            if function and not self._is_foreign(key, function):
                found[key[1]] = function
        return found

    def missing_for(self, channels: Iterable[str]) -> list[Missing]:
        """Return the privileges that these channels miss, or all of them."""
        about = {None, *channels}
        return [one for one in self.missing if one.channel in about]

    def problems(self) -> Iterator[Problem]:
        """Yield what differs, first what the code lacks, last what the catalogue has too much."""
        yield from _unwritten(self.declared, self.recorded)
        yield from self.unapplied()
        yield from self.astray()
        yield from self.untold

    def unapplied(self) -> Iterator[Problem]:
        """Yield what the database lacks because migrations have not run."""
        for _, channel in _differing(self.recorded, self.applied):
            text = "has migrations that have not run on this database"
            # Of which app is another matter: it may be the model's, which renames it.
            yield Problem(channel, text, f"Run: python manage.py migrate{self._database}")

    def astray(self) -> Iterator[Problem]:
        """Yield what the catalogue has otherwise than what has run here should have left it."""
        for fault in self.faults:
            remedy = f"Run: python manage.py pgpubsub install{self._database}"
            yield Problem("", fault.text, remedy)
        for key in sorted(self.expected):
            yield from self._astray(key[1], self.state_of(key), self.reason_of(key))
        for one in self.missing:
            install = f"python manage.py pgpubsub install{self._database}"
            mends = f"Run: {install}\nIt executes: {' '.join(one.statements)}"
            remedy = mends if one.is_ours_to_give else one.remedy
            text = one.text if one.channel else f"pgpubsub_sql {one.text}"
            yield Problem(one.channel or "", text, remedy)
        for function, reason in self.leftovers():
            yield from self._astray(function.channel or function.name, State.LEFTOVER, reason)

    def _astray(self, channel: str, state: State, reason: str) -> Iterator[Problem]:
        if state in ASTRAY:
            text, remedy = ASTRAY[state]
            names = {"channel": shlex.quote(channel), "database": self._database}
            yield Problem(channel, text.format(reason=reason), remedy.format(**names))

    def _is_foreign(self, key: Key, function: InstalledFunction) -> bool:
        """Whether it says to be another app's, and does not serve the same table."""
        if _key(function) in (None, key):
            return False
        tables = {trigger.table_oid for trigger in function.triggers}
        return tables != {self.sites[key].table_oid}

    def _triggers_there(self, key: Key, function: InstalledFunction) -> dict[str, InstalledTrigger]:
        table = self.sites[key].table_oid
        return {one.name: one for one in function.triggers if one.table_oid == table}

    def _differences(
        self, key: Key, function: InstalledFunction, form: FunctionForm
    ) -> Iterator[str]:
        trigger, site = self.expected[key], self.sites[key]
        found = list(function.form.differences(form))
        if found:
            yield f"the function {function.name} differs ({', '.join(found)})"
        if function.is_public:
            yield f"every role may execute the function {function.name}"
        wanted = wanted_triggers(trigger, site)
        for one in function.triggers:
            if one.name not in wanted or one.table_oid != site.table_oid:
                yield f"the trigger {one.name} on {one.table} should not be there"
                continue
            for difference in one.form.differences(wanted[one.name]):
                yield f"the trigger {one.name} {difference}"
        for other in self.surplus_functions(key):
            yield f"the function {other.name} should be called {trigger.function}"

    def _claim(self, key: Key) -> str:
        """Say why what is *key*'s is this project's, if it is; and that nobody asks for it."""
        if key in self.applied | self.unmigrated:
            return "its function has another name"
        if node := self.made.get(key):
            return f"the migration {'.'.join(node)} knows it, and no listener asks for it"
        if key[0] in self.known_apps:
            return f"it is of the app {key[0]!r}, of which no migration or listener asks for it"
        return ""

    @property
    def _database(self) -> str:
        """What to add to a command, so that it is about this database."""
        return "" if self.alias == DEFAULT_DB_ALIAS else f" --database {shlex.quote(self.alias)}"


def unwritten() -> Iterator[Problem]:
    """Yield what code and migrations differ in. No database is asked.

    Raises :class:`NotReady` if the migrations cannot be put in order.
    """
    loader = load()
    wanted = declared()
    migrated = {key: wanted[key] for key in wanted if key[0] not in loader.unmigrated_apps}
    yield from _unwritten(migrated, history.read(loader.graph).triggers)


def audit(connection: BaseDatabaseWrapper) -> Audit:
    """Compare the database of *connection* with the project.

    Raises :class:`NotReady` if it is not PostgreSQL, our own migrations have not run there, or
    the project's cannot be put in order.
    """
    loader = _loader(connection)
    schemas = find_schemas(connection)
    applied = [node for node in loader.graph.nodes if node in loader.applied_migrations]
    state = ProjectState(real_apps=loader.unmigrated_apps)
    if applied:
        state = loader.graph.make_state(applied, real_apps=loader.unmigrated_apps)
    wanted = _here(connection, state, declared())
    unmigrated = {key: wanted[key] for key in wanted if key[0] in loader.unmigrated_apps}
    told = history.read(loader.graph)
    installed = _here(connection, state, history.read(loader.graph, applied).triggers)
    sites, misfits = _sites(connection, state, installed | unmigrated)
    schema = schemas.helpers or schemas.current
    functions = installed_functions(connection)
    faults = shared.faults(connection, schema)
    there = [
        (trigger, sites[key])
        for key, trigger in (installed | unmigrated).items()
        if key in sites and sites[key].table_oid and trigger.function in functions
    ]
    return Audit(
        alias=connection.alias,
        schema=schema,
        declared={key: wanted[key] for key in wanted.keys() - unmigrated.keys()},
        recorded=_here(connection, state, told.triggers),
        applied=installed,
        unmigrated=unmigrated,
        known_apps=_known_apps(loader),
        made=told.made,
        state=state,
        functions=functions,
        sites=sites,
        misfits=misfits,
        faults=faults,
        missing=[] if faults else missing_privileges(connection, there, helpers=schema),
        untold=list(untold(connection, (installed | unmigrated).values())),
    )


def _loader(connection: BaseDatabaseWrapper) -> MigrationLoader:
    """Return what has run here, if ours has; what it has made may be gone, and is then missing."""
    check_postgresql(connection)
    loader = load(connection)
    if not any(label == APP for label, _ in loader.applied_migrations):
        check_ready(connection)
    return loader


def _known_apps(loader: MigrationLoader) -> set[str]:
    """Leave out apps that a newer release has migrated further: what it made is no leftover."""
    ahead = {node[0] for node in loader.applied_migrations if node not in loader.disk_migrations}
    return {config.label for config in apps.get_app_configs()} - ahead


def _here(connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers) -> Triggers:
    """Return those whose table lives on this database."""
    return {
        key: trigger for key, trigger in triggers.items() if is_allowed(connection, state, trigger)
    }


def _sites(
    connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers
) -> tuple[dict[Key, Site], dict[Key, str]]:
    """Return where each is, and why some can do nothing with their columns.

    Left out are those whose model is not there yet, or has gone in a migration before theirs.
    """
    sites, misfits = {}, {}
    for key, trigger in triggers.items():
        try:
            db_table = state.apps.get_model(trigger.model)._meta.db_table
        except LookupError:
            continue
        try:
            sites[key] = site_of(connection, key[0], trigger, db_table)
        except NotReady as error:  # it is no table any more, and so has no triggers
            sites[key] = nowhere(connection, key[0], db_table)
            misfits[key] = str(error)
            continue
        if reason := misfit(connection, trigger, sites[key]):
            misfits[key] = reason.partition("\n")[0]
    return sites, misfits


def _key(function: InstalledFunction) -> Key | None:
    """Return whose the function says to be."""
    return (function.app, function.channel) if function.app and function.channel else None


def _unwritten(wanted: Triggers, written: Triggers) -> Iterator[Problem]:
    for label, channel in _differing(wanted, written):
        if (label, channel) not in wanted:
            text = "has a trigger in the migrations, but no listener asks for it any more"
        elif (label, channel) not in written:
            text = "has no migration yet"
        else:
            text = "is declared in the code, but the migrations do not install it like that"
        yield Problem(channel, text, f"Run: python manage.py makemigrations {label}")


def _differing(one: Triggers, other: Triggers) -> Iterable[Key]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
