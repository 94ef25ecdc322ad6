"""Which role needs which privileges, and which are missing.

``docs/reference/sql.md`` shows these tables; ``migrate``, ``verify``, ``listen`` and the other
commands check them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.sql.ddl import Target
from pgpubsub_sql.sql.own_tables import (
    COUNTER,
    HANDLED,
    HISTORY,
    IN_FLIGHT,
    INBOX,
    LONG_PAYLOAD,
    NOTIFICATION,
    NUMBERS,
    POSITION,
    SECRET,
    SUBSCRIPTION,
)
from pgpubsub_sql.sql.templates import query
from pgpubsub_sql.sql.trigger import Trigger


class Privilege(NamedTuple):
    """A privilege on one object, in the schema of our tables unless it names another."""

    privilege: str
    kind: str
    name: str
    schema: str | None = None


class Role(enum.StrEnum):
    """What a PostgreSQL role does for us, if it does not own our tables and functions."""

    WRITER = "writes to a watched table"
    SQL_SENDER = "sends to durable channels with SQL"
    RAW_SENDER = "sends to ephemeral channels without a model, with SQL"
    DURABLE_SENDER = "calls `notify()` on a durable channel"
    EPHEMERAL_SENDER = "calls `notify()` on an ephemeral channel"
    MANY_SENDER = "calls `notify_many()`"
    LISTENER = "runs `listen`"
    DISPLAYER = "runs `listen`, and shows what takes long"
    COUNTER = "runs `listen`, and counts (`PGPUBSUB_COUNTERS`)"
    HISTORIAN = "runs `listen` for channels with `keep`"
    FORGETTER = "runs `listen`, and deletes what was kept for long enough"
    FILLER = 'runs `listen` for subscriptions with `start="history"`'
    RECEIVER = "runs `listen --relay`"
    READER = "runs `pgpubsub status`, `failed`, `parked` or `show`"
    ONLOOKER = "sees there, or in the admin, what takes long, and how much is handled"
    METER = "exports metrics"
    HISTORY_READER = "runs `pgpubsub history`, or sees it in the admin"
    WATCHER = "runs `pgpubsub tail`"
    KEEPER = "runs `pgpubsub retry`, `replay`, `discard` or `move`"
    REPLAYER = "runs `pgpubsub replay --handled`"
    DISCARDER = "runs `pgpubsub discard` for channels with `keep`"
    PAUSER = "runs `pgpubsub pause` or `resume`"
    REGISTRAR = "runs `pgpubsub unsubscribe` or `move --subscription`"
    VERIFIER = "runs `pgpubsub verify`, `ls` or `sql`"
    DURABLE_OWNER = "owns the function of a durable trigger channel"
    EPHEMERAL_OWNER = "owns the function of an ephemeral trigger channel"


def _table(name: str, *privileges: str) -> tuple[Privilege, ...]:
    return tuple(Privilege(privilege, "TABLE", name) for privilege in privileges)


def _call(*functions: str) -> tuple[Privilege, ...]:
    return tuple(Privilege("EXECUTE", "FUNCTION", name) for name in functions)


def _call_postgres(*functions: str) -> tuple[Privilege, ...]:
    return tuple(Privilege("EXECUTE", "FUNCTION", name, "pg_catalog") for name in functions)


_KEY = "pgpubsub_key_v1"
_IGNORED = "pgpubsub_ignored_v1"
_BUCKET = "pgpubsub_bucket_v1"
_NOTIFY = (
    *_call("pgpubsub_must_notify", "pgpubsub_is_notified", _BUCKET),
    *_call_postgres(
        "pg_notify",
        "pg_try_advisory_xact_lock_shared",
        "pg_try_advisory_lock",
        "pg_advisory_unlock",
    ),
)

_STORING = (
    *_table(SUBSCRIPTION, "SELECT"),
    Privilege("USAGE", "SEQUENCE", NUMBERS),
)
"""For an INSERT that looks up subscriptions, and numbers messages."""

PRIVILEGES: Mapping[Role, tuple[Privilege, ...]] = {
    Role.WRITER: (),
    Role.SQL_SENDER: _call("pgpubsub_notify"),
    Role.RAW_SENDER: _call_postgres("pg_notify"),
    Role.DURABLE_SENDER: _call("pgpubsub_store_v1"),
    Role.EPHEMERAL_SENDER: _call("pgpubsub_publish_v1"),
    Role.MANY_SENDER: _call("pgpubsub_notify_many_v1"),
    Role.LISTENER: (
        *_table(NOTIFICATION, "SELECT", "INSERT", "UPDATE", "DELETE"),
        *_table(LONG_PAYLOAD, "SELECT", "DELETE"),
        *_STORING,
        *_table(SECRET, "SELECT"),
        *_call(_KEY, _BUCKET),
        *_call_postgres(
            "pg_notify",
            "pg_try_advisory_lock",
            "pg_try_advisory_xact_lock",
            "pg_try_advisory_lock_shared",
            "pg_advisory_unlock_shared",
            "pg_advisory_lock",
            "pg_advisory_unlock",
        ),
    ),
    Role.DISPLAYER: _table(IN_FLIGHT, "SELECT", "INSERT", "DELETE"),
    Role.COUNTER: _table(COUNTER, "SELECT", "INSERT", "UPDATE", "DELETE"),
    Role.HISTORIAN: _table(HISTORY, "SELECT", "INSERT", "DELETE"),
    Role.FORGETTER: _call("pgpubsub_forget_v1"),
    Role.FILLER: (
        *_table(NOTIFICATION, "SELECT", "INSERT"),
        *_table(HANDLED, "SELECT"),
        *_table(SUBSCRIPTION, "SELECT", "UPDATE"),
        *_call_postgres("pg_notify"),
    ),
    Role.RECEIVER: (
        *_table(POSITION, "SELECT", "INSERT", "UPDATE", "DELETE"),
        *_table(INBOX, "SELECT", "INSERT", "DELETE"),
        *_table(NOTIFICATION, "INSERT"),
        *_STORING,
        *_call(_KEY),
        *_call_postgres(
            "pg_notify", "pg_try_advisory_lock", "pg_advisory_unlock", "pg_control_system"
        ),
    ),
    Role.READER: (*_table(NOTIFICATION, "SELECT"), *_table(SUBSCRIPTION, "SELECT")),
    Role.ONLOOKER: (*_table(IN_FLIGHT, "SELECT"), *_table(COUNTER, "SELECT")),
    Role.METER: (
        *_table(NOTIFICATION, "SELECT"),
        *_table(SUBSCRIPTION, "SELECT"),
        *_table(COUNTER, "SELECT"),
    ),
    Role.HISTORY_READER: _table(HANDLED, "SELECT"),
    Role.WATCHER: (*_table(NOTIFICATION, "SELECT"), *_table(LONG_PAYLOAD, "SELECT")),
    Role.KEEPER: (
        *_table(NOTIFICATION, "SELECT", "UPDATE", "DELETE"),
        *_call_postgres("pg_notify"),
    ),
    Role.REPLAYER: (
        *_table(HANDLED, "SELECT"),
        *_table(NOTIFICATION, "INSERT"),
        *_STORING,
        *_call_postgres("pg_notify"),
    ),
    Role.DISCARDER: _table(HISTORY, "INSERT"),
    Role.PAUSER: (
        *_table(NOTIFICATION, "SELECT"),
        *_table(SUBSCRIPTION, "SELECT", "INSERT", "UPDATE"),
        *_call_postgres("pg_notify"),
    ),
    Role.REGISTRAR: (
        *_table(NOTIFICATION, "SELECT", "UPDATE", "DELETE"),
        *_table(SUBSCRIPTION, "SELECT", "INSERT", "UPDATE", "DELETE"),
        *_call_postgres("pg_notify"),
    ),
    Role.VERIFIER: _table("django_migrations", "SELECT"),
    Role.DURABLE_OWNER: (
        *_table(NOTIFICATION, "INSERT"),
        *_STORING,
        *_call("pgpubsub_context_v1", _IGNORED, _KEY),
        *_NOTIFY,
    ),
    Role.EPHEMERAL_OWNER: _call("pgpubsub_context_v1", _IGNORED, "pgpubsub_send_v1"),
}
"""What each role needs, besides USAGE on the schemas of these objects."""

HELPERS: Mapping[str, tuple[Privilege, ...]] = {
    "pgpubsub_notify": _call("pgpubsub_store_v1"),
    "pgpubsub_store_v1": (
        *_table(NOTIFICATION, "SELECT", "INSERT"),
        *_STORING,
        *_call("pgpubsub_context_v1", _KEY),
        *_NOTIFY,
    ),
    "pgpubsub_publish_v1": _call("pgpubsub_context_v1", "pgpubsub_send_v1"),
    "pgpubsub_send_v1": (
        *_table(LONG_PAYLOAD, "SELECT", "INSERT"),
        *_table(SECRET, "SELECT", "INSERT"),
        *_call_postgres("pg_notify"),
    ),
    "pgpubsub_forget_v1": _table(HISTORY, "OWNERSHIP"),  # a GRANT would not hold for partitions
    "pgpubsub_notify_many_v1": (
        *_table(NOTIFICATION, "INSERT"),
        *_STORING,
        *_call("pgpubsub_context_v1", _KEY, "pgpubsub_send_v1"),
        *_NOTIFY,
    ),
}
"""What the owner of each SECURITY DEFINER function of ours needs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Missing:
    """The privileges that one role lacks for one purpose."""

    channel: str | None
    """Name of the channel concerned; None if all of them are."""
    text: str
    """What is wrong: the rest of a sentence about the channel, or about pgpubsub_sql."""
    statements: tuple[str, ...]
    """The statements that grant what is missing."""
    is_ours_to_give: bool
    """Whether the current role may execute all of them."""

    @property
    def remedy(self) -> str:
        """What to do about it, in words."""
        return f"Have the owner of these objects, or a superuser, run: {' '.join(self.statements)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Needs:
    """The privileges that one role needs for one purpose."""

    say: Callable[[str, str], str]
    """Return what is wrong, given the role and what it lacks."""
    privileges: tuple[Privilege, ...]
    schema: str | None = None
    """Schema of objects that name none; None for the search_path."""
    channel: str | None = None
    role: str | None = None
    function: tuple[str, str] | None = None
    """Schema and name of a function; its owner is the role."""


def missing_privileges(
    connection: BaseDatabaseWrapper, installed: Iterable[tuple[Trigger, Target]], *, helpers: str
) -> list[Missing]:
    """Return the missing privileges that make writes to watched tables fail, or partitioning them.

    *installed* are triggers and where they are, or will be; *helpers* is the schema of our tables.
    """
    needs = [_of_helper(name, helpers) for name in HELPERS]
    for trigger, target in installed:
        needs.append(_of_function(trigger, target))
        needs.append(_of_types(trigger, target))
        needs.extend(_of_owners(connection, trigger, target))
    return list(_missing(connection, needs))


def missing_to_install(
    connection: BaseDatabaseWrapper, trigger: Trigger, target: Target
) -> list[Missing]:
    """Return the missing privileges that prevent installing *trigger* or fail writes."""
    return [
        *_missing(connection, [_of_table(connection, trigger, target)]),
        *missing_privileges(connection, [(trigger, target)], helpers=target.helpers),
    ]


def statements(missing: Iterable[Missing]) -> list[str]:
    """Return the statements that grant all that is *missing*, each once."""
    return list(dict.fromkeys(statement for one in missing for statement in one.statements))


def partition_owners(connection: BaseDatabaseWrapper, target: Target) -> list[str]:
    """Return the roles that may create and attach partitions, if the table has any.

    PostgreSQL creates the parent's triggers on a partition in the name of who attaches it.
    """
    return _watched(connection, target)[2] if target.partitioned else []


def missing_for(connection: BaseDatabaseWrapper, role: Role) -> Missing | None:
    """Return what the role of *connection* lacks to be a *role*, on its search_path."""

    def say(name: str, missing: str) -> str:
        return f"The role {name!r} lacks privileges of a role that {role}: {missing}"

    return next(_missing(connection, [_Needs(say=say, privileges=PRIVILEGES[role])]), None)


def needed_by(trigger: Trigger) -> tuple[Privilege, ...]:
    """Return the privileges that the function of *trigger* needs."""
    role = Role.DURABLE_OWNER if trigger.durable else Role.EPHEMERAL_OWNER
    unused = {name for name, used in _optional(trigger) if not used}
    return tuple(one for one in PRIVILEGES[role] if one.name not in unused)


def _optional(trigger: Trigger) -> Iterator[tuple[str, bool]]:
    yield _KEY, bool(trigger.ordering_key)
    yield _IGNORED, trigger.ignorable


def _of_helper(name: str, schema: str) -> _Needs:
    return _Needs(
        say=lambda role, missing: f"has a function, {name}, that {_runs_as(role, missing)}",
        privileges=_with_usage(HELPERS[name], schema),
        schema=schema,
        function=(schema, name),
    )


def _of_function(trigger: Trigger, target: Target) -> _Needs:
    return _Needs(
        say=lambda role, missing: f"has a function that {_runs_as(role, missing)}",
        privileges=_with_usage(needed_by(trigger), target.helpers),
        schema=target.helpers,
        channel=trigger.channel,
        function=(target.schema, trigger.function),
    )


def _runs_as(role: str, missing: str) -> str:
    return f"runs as the role {role!r}, which lacks {missing}; so writes that call it fail"


def _of_types(trigger: Trigger, target: Target) -> _Needs:
    """PostgreSQL skips a schema without USAGE in the search_path, and finds other operators."""
    return _Needs(
        say=lambda role, missing: (
            f"has a condition whose operators the role {role!r}, as which its function runs, "
            f"cannot find without {missing}; so every row is sent whole"
        ),
        privileges=tuple(Privilege("USAGE", "SCHEMA", name, name) for name in target.type_schemas),
        channel=trigger.channel,
        function=(target.schema, trigger.function),
    )


def _of_owners(
    connection: BaseDatabaseWrapper, trigger: Trigger, target: Target
) -> Iterator[_Needs]:
    for owner in partition_owners(connection, target):
        yield _Needs(
            say=lambda role, missing: (
                f"watches {target.db_table}, whose owner {role!r} lacks {missing}; so it can "
                "neither create nor attach partitions"
            ),
            privileges=_call(trigger.function),
            schema=target.schema,
            channel=trigger.channel,
            role=owner,
        )


def _of_table(connection: BaseDatabaseWrapper, trigger: Trigger, target: Target) -> _Needs:
    schema, name, _ = _watched(connection, target)
    return _Needs(
        say=lambda role, missing: (
            f"cannot be installed by the role {role!r}, which lacks {missing}"
        ),
        privileges=_table(name, "TRIGGER"),
        schema=schema,
        channel=trigger.channel,
    )


def _watched(connection: BaseDatabaseWrapper, target: Target) -> tuple[str, str, list[str]]:
    """Return the table's schema and name, and the owners of its parts that have partitions."""
    with connection.cursor() as cursor:
        cursor.execute(query("watched_table"), {"table": str(target.qualified or "")})
        return cursor.fetchone() or ("", "", [])


def _with_usage(privileges: Iterable[Privilege], schema: str) -> tuple[Privilege, ...]:
    return (Privilege("USAGE", "SCHEMA", schema, schema), *privileges)


def _missing(connection: BaseDatabaseWrapper, needs: Sequence[_Needs]) -> Iterator[Missing]:
    for number, rows in groupby(_ask(connection, needs), key=attrgetter("need")):
        need, lacking = needs[number], list(rows)
        missing = ", ".join(row.missing for row in lacking)
        yield Missing(
            channel=need.channel,
            text=need.say(lacking[0].role, missing),
            statements=tuple(f"{row.statement};" for row in lacking),
            is_ours_to_give=all(row.is_ours_to_give for row in lacking),
        )


class _Row(NamedTuple):
    """What a role lacks on one object."""

    need: int
    position: int
    role: str
    missing: str
    statement: str
    is_ours_to_give: bool


def _ask(connection: BaseDatabaseWrapper, needs: Sequence[_Needs]) -> list[_Row]:
    asked = [(number, need, one) for number, need in enumerate(needs) for one in need.privileges]
    values: dict[str, Any] = {
        "needs": [number for number, _, _ in asked],
        "roles": [need.role for _, need, _ in asked],
        "function_schemas": [need.function and need.function[0] for _, need, _ in asked],
        "functions": [need.function and need.function[1] for _, need, _ in asked],
        "kinds": [one.kind for _, _, one in asked],
        "schemas": [one.schema or need.schema for _, need, one in asked],
        "names": [one.name for _, _, one in asked],
        "privileges": [one.privilege for _, _, one in asked],
    }
    with connection.cursor() as cursor:
        cursor.execute(query("privileges"), values)
        return [_Row(*row) for row in cursor.fetchall()]
