"""What should be installed on a database, what is, and what to run where the two differ."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState

from pgpubsub_sql import conf
from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops import history
from pgpubsub_sql.migrations_ops.applying import is_allowed
from pgpubsub_sql.migrations_ops.history import Key, Triggers
from pgpubsub_sql.migrations_ops.labels import load
from pgpubsub_sql.migrations_ops.state import declared
from pgpubsub_sql.migrations_ops.tables import find_site, misfit
from pgpubsub_sql.sql import query, quote_table
from pgpubsub_sql.sql.catalogue import InstalledFunction, installed_functions
from pgpubsub_sql.sql.readiness import check_ready
from pgpubsub_sql.sql.trigger import Trigger


class State(enum.StrEnum):
    """How the catalogue stands to what should be installed."""

    INSTALLED = "installed"
    """All of it, as specified."""
    OUTDATED = "outdated"
    """By another specification than the one in force."""
    MISSING = "missing"
    """The function is not there, or not all of its triggers on the model's table."""
    DISABLED = "disabled"
    """All of it, but somebody has disabled a trigger."""
    STALE = "stale"
    """All of it, but the columns that it names are not there, or not as it needs them."""
    FOREIGN = "foreign"
    """The function's name is taken by what another project, or nobody, has installed."""
    LEFTOVER = "leftover"
    """It carries our owner's tag, and nothing asks for it any more."""


_ASTRAY = {
    State.MISSING: (
        "has no trigger in the database, or not all of its triggers",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    State.OUTDATED: (
        "has a trigger that differs from what the migrations install",
        "Run: python manage.py pgpubsub install {channel}{database}",
    ),
    State.DISABLED: (
        "has a disabled trigger",
        "Run: python manage.py pgpubsub enable {channel}{database}",
    ),
    State.STALE: (
        "names columns that its table lacks or has changed, so every row is sent whole: {reason}",
        "Change the channel's columns, watch or condition. Run: python manage.py makemigrations",
    ),
    State.FOREIGN: (
        "needs the name of a function that this project has not installed",
        "Set another channel_name, or PGPUBSUB_OWNER to the owner that ls --json shows.",
    ),
    State.LEFTOVER: (
        "has a trigger in the database, but neither the code nor a migration asks for it",
        "Run: python manage.py pgpubsub prune{database}",
    ),
}
"""What to say of each state but the right one, and what to do about it."""


class Problem(NamedTuple):
    """One difference between code, migrations and catalogue."""

    channel: str
    """Name of the channel in PostgreSQL."""
    text: str
    """What is wrong."""
    remedy: str
    """What to do about it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """One database, compared with the project. Each mapping is by app label and channel."""

    alias: str
    """The database."""
    declared: Triggers
    """What the code wants, in apps that have migrations."""
    recorded: Triggers
    """What is installed once every migration has run."""
    applied: Triggers
    """What the migrations that have run here have installed."""
    unmigrated: Triggers
    """What the code wants in apps that have no migrations."""
    state: ProjectState
    """The models as the migrations applied here have them."""
    functions: Mapping[str, InstalledFunction]
    """What the catalogue has, by the name of the function."""
    tables: Mapping[Key, int]
    """Object ids of the tables of what is expected; of a table that there is not, 0."""
    misfits: Mapping[Key, str]
    """Why what names columns of its table can do nothing with them."""

    @property
    def expected(self) -> Triggers:
        """What should be installed now: all whose model is there, whichever migration is next."""
        asked_for = self.applied | self.unmigrated
        return {key: asked_for[key] for key in asked_for if key in self.tables}

    def state_of(self, key: Key) -> State:
        """Return how the catalogue stands to one channel that is expected."""
        trigger = self.expected[key]
        function = self.functions.get(trigger.function)
        if function is None:
            return State.MISSING
        if not self.is_ours(function):
            return State.FOREIGN
        state = _compare(trigger, function, self.tables[key])
        return State.STALE if state is State.INSTALLED and key in self.misfits else state

    def is_ours(self, function: InstalledFunction) -> bool:
        """Whether this project has installed it."""
        return function.owner == conf.owner()

    def leftovers(self) -> list[InstalledFunction]:
        """Return what this project has installed and does not ask for any more."""
        asked_for = self.applied | self.unmigrated
        wanted = {trigger.function for trigger in asked_for.values()}
        return [
            function
            for name, function in self.functions.items()
            if self.is_ours(function) and name not in wanted
        ]

    def problems(self) -> Iterator[Problem]:
        """Yield what differs, first what the code lacks, last what the catalogue has too much."""
        yield from _unwritten(self.declared, self.recorded)
        yield from self._unapplied()
        yield from self.astray()

    def astray(self) -> Iterator[Problem]:
        """Yield what the catalogue has otherwise than what has run here should have left it."""
        for key in sorted(self.expected):
            yield from self._astray(key[1], self.state_of(key), self.misfits.get(key, ""))
        for function in self.leftovers():
            yield from self._astray(function.channel or function.name, State.LEFTOVER)

    def _unapplied(self) -> Iterator[Problem]:
        for _, channel in _differing(self.recorded, self.applied):
            text = "has migrations that have not run on this database"
            # Of which app is another matter: it may be the model's, which renames it.
            yield Problem(channel, text, f"Run: python manage.py migrate{self._database}")

    def _astray(self, channel: str, state: State, reason: str = "") -> Iterator[Problem]:
        if state in _ASTRAY:
            text, remedy = _ASTRAY[state]
            names = {"channel": shlex.quote(channel), "database": self._database}
            yield Problem(channel, text.format(reason=reason), remedy.format(**names))

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
    check_ready(connection)
    loader = load(connection)
    applied = [node for node in loader.graph.nodes if node in loader.applied_migrations]
    state = ProjectState(real_apps=loader.unmigrated_apps)
    if applied:
        state = loader.graph.make_state(applied, real_apps=loader.unmigrated_apps)
    wanted = _here(connection, state, declared())
    unmigrated = {key: wanted[key] for key in wanted if key[0] in loader.unmigrated_apps}
    installed = _here(connection, state, history.read(loader.graph, applied).triggers)
    with_model = _with_model(state, installed | unmigrated)
    return Audit(
        alias=connection.alias,
        declared={key: wanted[key] for key in wanted.keys() - unmigrated.keys()},
        recorded=_here(connection, state, history.read(loader.graph).triggers),
        applied=installed,
        unmigrated=unmigrated,
        state=state,
        functions=installed_functions(connection),
        tables=_tables(connection, state, with_model),
        misfits=dict(_misfits(connection, state, with_model)),
    )


def _here(connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers) -> Triggers:
    """Return those whose table lives on this database."""
    return {
        key: trigger for key, trigger in triggers.items() if is_allowed(connection, state, trigger)
    }


def _with_model(state: ProjectState, triggers: Triggers) -> Triggers:
    """Leave out those whose model is not there yet, or has gone in a migration before theirs."""
    with_model = {}
    for key, trigger in triggers.items():
        with contextlib.suppress(LookupError):
            state.apps.get_model(trigger.model)
            with_model[key] = trigger
    return with_model


def _tables(
    connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers
) -> dict[Key, int]:
    names = [
        quote_table(state.apps.get_model(trigger.model)._meta.db_table)
        for trigger in triggers.values()
    ]
    with connection.cursor() as cursor:
        cursor.execute(query("table_ids"), {"tables": names})
        ids = [number for (number,) in cursor.fetchall()]
    return dict(zip(triggers, ids, strict=True))


def _misfits(
    connection: BaseDatabaseWrapper, state: ProjectState, triggers: Triggers
) -> Iterator[tuple[Key, str]]:
    for key, trigger in triggers.items():
        db_table = state.apps.get_model(trigger.model)._meta.db_table
        with contextlib.suppress(NotReady):  # no table
            site = find_site(connection, trigger, db_table, schema="", helpers="", owner="")
            if reason := misfit(connection, trigger, site):
                yield key, reason.partition("\n")[0]


def _compare(trigger: Trigger, function: InstalledFunction, table: int) -> State:
    wanted = set(trigger.triggers().values())
    there = {found.name: found for found in function.triggers if found.table_oid == table}
    if wanted - there.keys():
        return State.MISSING
    prints = {function.fingerprint, *(found.fingerprint for found in function.triggers)}
    if prints != {trigger.fingerprint} or len(function.triggers) > len(wanted):
        return State.OUTDATED
    return State.INSTALLED if all(found.enabled for found in there.values()) else State.DISABLED


def _unwritten(wanted: Triggers, written: Triggers) -> Iterator[Problem]:
    for label, channel in _differing(wanted, written):
        if (label, channel) in wanted:
            text = "is declared in the code, but the migrations do not install it like that"
        else:
            text = "has a trigger in the migrations, but no listener asks for it any more"
        yield Problem(channel, text, f"Run: python manage.py makemigrations {label}")


def _differing(one: Triggers, other: Triggers) -> Iterable[Key]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
