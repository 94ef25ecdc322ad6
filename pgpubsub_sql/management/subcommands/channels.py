"""``manage.py pgpubsub ls | verify | sql``: what is declared and what is installed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import sqlparse
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from sqlparse.exceptions import SQLParseError

from pgpubsub_sql.channels import BaseChannel, Channel, codec, declared_channels, dotted_path
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.base import Options, Row, Subcommand
from pgpubsub_sql.management.output import (
    blocks,
    output_width,
    pluralize,
    table,
    write_json,
)
from pgpubsub_sql.management.selection import add_channels, resolve_channels
from pgpubsub_sql.migrations_ops import maintenance
from pgpubsub_sql.migrations_ops.audit import Audit, audit
from pgpubsub_sql.migrations_ops.problems import InstallState
from pgpubsub_sql.migrations_ops.recorded_triggers import Key
from pgpubsub_sql.sql import quote_literal
from pgpubsub_sql.sql.catalogue import InstalledFunction
from pgpubsub_sql.sql.trigger import Trigger


def ls(command: BaseCommand, options: Options) -> None:
    """List channels: model, triggers and their state, and listeners.

    Name a channel to see everything about it, such as the paths of its listeners.

      manage.py pgpubsub ls
      manage.py pgpubsub ls blog.AuthorChannel
    """
    found = audit_database(options)
    declared = {channel.postgres_name(): channel for channel in declared_channels()}
    known = _Known.of(found)
    names = dict.fromkeys([*declared, *known.keys, *known.installed])
    selected = resolve_channels(options["channels"], names) or names
    rows = [_described(name, declared.get(name), known, found) for name in selected]
    if options["json"]:
        write_json(command, rows)
    elif options["channels"]:
        command.stdout.write(blocks(rows))
    elif rows:
        command.stdout.write(table([_overview(row) for row in rows], output_width(command)))
    else:
        command.stdout.write("No channel is declared.")


def verify(command: BaseCommand, options: Options) -> None:
    """Compare code, migrations and database; exit with 1 if they differ, and say what to run.

    Use it after migrate, as the last step of a deployment, and after anything else that changes the
    database, such as a restore.

      manage.py pgpubsub verify
      manage.py pgpubsub verify --database other
    """
    problems = list(audit_database(options).all_problems())
    if options["channels"]:
        names = [channel.postgres_name() for channel in declared_channels()]
        known = [*names, *(one.channel for one in problems)]
        selected = resolve_channels(options["channels"], known)
        problems = [one for one in problems if one.channel in selected or not one.channel]
    rows = [problem._asdict() for problem in problems]
    if options["json"]:
        write_json(command, rows)
    else:
        lines = [f"{one.sentence} {one.remedy}" for one in problems]
        command.stdout.write("\n".join(lines) or "Code, migrations and database agree.")
    if problems:
        raise CommandError(f"{pluralize(len(problems), 'problem')} found.", returncode=1)


def sql(command: BaseCommand, options: Options) -> None:
    """Print the SQL that installs a channel's triggers, or that sends a message.

    Use it to review what a migration installs. For a channel without a model, it prints a statement
    that sends a message, to start from, and the JSON Schema of the payload.

      manage.py pgpubsub sql blog.AuthorChannel
    """
    found = audit_database(options)
    connection = connections[options["database"]]
    keys = expected_keys(found).items()
    rows = {name: _installing(connection, found, key) for name, key in keys}
    for channel in declared_channels():
        if issubclass(channel, Channel):
            rows[channel.postgres_name()] = _sending(channel)
    selected = [rows[name] for name in resolve_channels(options["channels"], rows) or rows]
    if options["json"]:
        write_json(command, selected)
    else:
        command.stdout.write("\n\n".join(map(_as_text, selected)))


SUBCOMMANDS = (
    Subcommand(ls, add_channels, needs_tables=False),
    Subcommand(verify, add_channels, needs_tables=False),
    Subcommand(sql, add_channels, needs_tables=False),
)


def audit_database(options: Options) -> Audit:
    """Compare the database of *options* with code and migrations."""
    return audit(connections[options["database"]])


def expected_keys(found: Audit) -> dict[str, Key]:
    """Return the channels whose triggers should be installed, by name."""
    return {key[1]: key for key in sorted(found.expected)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """What an audit has found, by the name of the channel."""

    keys: Mapping[str, Key]
    """Channels whose triggers should be installed."""
    triggers: Mapping[str, Trigger]
    """Triggers that are declared or should be installed."""
    installed: Mapping[str, InstalledFunction]
    """What is installed in this schema, including what belongs to another project."""

    @classmethod
    def of(cls, found: Audit) -> _Known:
        here = [one for one in found.functions.values() if one.is_current]
        return cls(
            keys=expected_keys(found),
            triggers={key[1]: one for key, one in (found.declared | found.expected).items()},
            installed={one.channel or one.name: one for one in here} | dict(found.owned),
        )


def _described(name: str, channel: type[BaseChannel] | None, known: _Known, found: Audit) -> Row:
    trigger = known.triggers.get(name)
    function = found.functions.get(trigger.function) if trigger else known.installed.get(name)
    listeners = [one.path for one in registry.listeners_of(channel)] if channel else []
    return {
        "channel": name,
        "class": dotted_path(channel) if channel else None,
        "model": trigger.model if trigger else None,
        "triggers": list(trigger.triggers()) if trigger else [],
        "level": trigger.level if trigger else None,
        "durable": bool(channel and channel.lock_notifications),
        "listeners": listeners,
        "state": _state(name, function, known, found),
        "app": function.app if function else None,
    }


def _overview(row: Row) -> Row:
    """Return what the table shows of a channel, which must fit on one line."""
    shown = {name: row[name] for name in ("channel", "model", "triggers", "durable", "state")}
    return shown | {"listeners": len(row["listeners"])}


def _state(
    name: str, function: InstalledFunction | None, known: _Known, found: Audit
) -> InstallState | None:
    if key := known.keys.get(name):
        return found.state_of(key)
    if name in found.owned:
        return InstallState.LEFTOVER
    if name in known.triggers:
        return InstallState.MISSING  # its migration has not run
    return InstallState.FOREIGN if function else None


def _installing(connection: BaseDatabaseWrapper, found: Audit, key: Key) -> dict[str, Any]:
    statements = maintenance.installing_sql(connection, found, key)
    return {"channel": key[1], "sql": [_formatted(statement) for statement in statements]}


def _sending(channel: type[Channel]) -> dict[str, Any]:
    name, payloads = channel.postgres_name(), codec(channel)
    ephemeral = "pg_notify" if channel.accept_raw_notify else "pgpubsub_publish_v1"
    function = "pgpubsub_notify" if channel.lock_notifications else ephemeral
    message = json.dumps(payloads.example(), ensure_ascii=False)
    statement = f"SELECT {function}({quote_literal(name)}, {quote_literal(message)});"
    return {"channel": name, "sql": [statement], "schema": payloads.schema()}


def _as_text(row: dict[str, Any]) -> str:
    lines = [f"-- {row['channel']}", *row["sql"]]
    if "schema" in row:
        schema = json.dumps(row["schema"], indent=2, ensure_ascii=False)
        lines += [f"-- {line}" for line in schema.splitlines()]
    return "\n".join(lines)


def _formatted(statement: str) -> str:
    """Return SQL formatted for people, or unchanged if sqlparse gives up on it."""
    try:
        return sqlparse.format(statement, reindent=False, strip_whitespace=False)
    except (SQLParseError, RecursionError):
        return statement
