"""``manage.py pgpubsub ls | verify | sql``: what is declared and what is installed."""

from __future__ import annotations

import json
from typing import Any

import sqlparse
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from sqlparse.exceptions import SQLParseError

from pgpubsub_sql.channels import BaseChannel, Channel, codec, declared_channels, dotted_path
from pgpubsub_sql.listeners import Listener, registry
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
from pgpubsub_sql.migrations_ops.known_channels import KnownChannels, expected_keys
from pgpubsub_sql.migrations_ops.recorded_triggers import Key
from pgpubsub_sql.migrations_ops.subscriptions import lanes_being_filled
from pgpubsub_sql.sql import quote_literal
from pgpubsub_sql.subscriptions import Filled


def ls(command: BaseCommand, options: Options) -> None:
    """List channels: model, triggers and their state, and listeners.

    Name a channel to see everything about it, such as the paths of its listeners.

      manage.py pgpubsub ls
      manage.py pgpubsub ls blog.AuthorChannel
    """
    declared = {channel.postgres_name(): channel for channel in declared_channels()}
    known = KnownChannels.of(audit_database(options))
    names = dict.fromkeys([*declared, *known.keys, *known.installed])
    selected = resolve_channels(options["channels"], names) or names
    rows = [_described(name, declared.get(name), known) for name in selected]
    if options["json"]:
        write_json(command, rows)
    elif options["channels"]:
        command.stdout.write(blocks([_whole(row) for row in rows]))
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
        lines = lines or ["Code, migrations and database agree."]
        command.stdout.write("\n".join([*lines, *map(str, _filled(options))]))
    if problems:
        raise CommandError(f"{pluralize(len(problems), 'problem')} found.", returncode=1)


def _filled(options: Options) -> list[Filled]:
    return lanes_being_filled(connections[options["database"]])


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


def _described(name: str, channel: type[BaseChannel] | None, known: KnownChannels) -> Row:
    trigger, function = known.triggers.get(name), known.function_of(name)
    listeners = [_called(one) for one in registry.listeners_of(channel)] if channel else []
    return {
        "channel": name,
        "class": dotted_path(channel) if channel else None,
        "model": trigger.model if trigger else None,
        "triggers": list(trigger.triggers()) if trigger else [],
        "level": trigger.level if trigger else None,
        "durable": bool(channel and channel.lock_notifications),
        "listeners": listeners,
        "subscriptions": _subscriptions(channel) if channel else [],
        "state": known.state_of(name),
        "app": function.app if function else None,
    }


def _subscriptions(channel: type[BaseChannel]) -> list[str]:
    """Return the names of the subscriptions that listeners of *channel* declare."""
    return sorted({one.subscription for one in registry.listeners_of(channel)} - {""})


def _whole(row: Row) -> Row:
    """Return what a block shows of a channel."""
    return {name: row[name] for name in row if name != "subscriptions" or row[name]}


def _called(listener: Listener) -> str:
    return f"{listener.path} (in batches)" if listener.is_batch else listener.path


def _overview(row: Row) -> Row:
    """Return what the table shows of a channel, which must fit on one line."""
    shown = {name: row[name] for name in ("channel", "model", "triggers", "durable", "state")}
    return shown | {"listeners": len(row["listeners"])}


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
