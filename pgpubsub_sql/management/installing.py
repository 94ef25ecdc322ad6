"""``manage.py pgpubsub ls | verify | sql | install | uninstall | enable | disable | prune``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, TypeVar

import sqlparse
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from sqlparse.exceptions import SQLParseError

from pgpubsub_sql.channels import BaseChannel, Channel, codec, declared_channels, dotted_path
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.asking import ask, demand_choice, with_consent
from pgpubsub_sql.management.subcommands import (
    Options,
    Row,
    Subcommand,
    counted,
    resolve,
    show_json,
    with_channels,
    write,
)
from pgpubsub_sql.management.tables import blocks, table, width_of
from pgpubsub_sql.migrations_ops import repair, rights
from pgpubsub_sql.migrations_ops.audit import Audit, Problem, State, audit
from pgpubsub_sql.migrations_ops.history import Key
from pgpubsub_sql.sql import quote_literal
from pgpubsub_sql.sql.catalogue import InstalledFunction
from pgpubsub_sql.sql.privileges import Missing
from pgpubsub_sql.sql.trigger import Trigger

T = TypeVar("T")

_NAMED = 5
"""Channels that a question names."""


def ls(command: BaseCommand, options: Options) -> None:
    """List channels: what they watch, how many listen, and whether their triggers are installed.

    More is shown of channels that are named.
    """
    found = _audit(options)
    declared = {channel.postgres_name(): channel for channel in declared_channels()}
    names = dict.fromkeys([*declared, *_keys(found), *_functions(found)])
    chosen = resolve(options["channels"], names) or names
    rows = [_described(name, declared.get(name), found) for name in chosen]
    if options["json"]:
        show_json(command, rows)
    elif options["channels"]:
        command.stdout.write(blocks(rows))
    elif rows:
        command.stdout.write(table([_overview(row) for row in rows], width_of(command)))
    else:
        command.stdout.write("No channel is declared.")


def verify(command: BaseCommand, options: Options) -> None:
    """Compare code, migrations and catalogue; exit 1 where they differ, and say what to run."""
    found = _audit(options)
    missing = rights.lacking(connections[options["database"]], found)
    problems = [*found.problems(), *map(_lacking, missing)]
    if options["channels"]:
        names = [channel.postgres_name() for channel in declared_channels()]
        chosen = resolve(options["channels"], [*names, *(one.channel for one in problems)])
        problems = [problem for problem in problems if problem.channel in chosen]
    rows = [problem._asdict() for problem in problems]
    if options["json"]:
        write(command, rows, as_json=True, empty="")
    else:
        lines = [f"{one.channel} {one.text}. {one.remedy}" for one in problems]
        command.stdout.write("\n".join(lines) or "Code, migrations and catalogue agree.")
    if problems:
        raise CommandError(f"{counted(len(problems), 'problem')} found.", returncode=1)


def sql(command: BaseCommand, options: Options) -> None:
    """Print the SQL that installs a channel's triggers, or that sends a message of a channel.

    For a channel without rows that is a statement to start from, and the JSON Schema of its
    payload.
    """
    found = _audit(options)
    connection = connections[options["database"]]
    rows = {name: _installed_by(connection, found, key) for name, key in _keys(found).items()}
    for channel in declared_channels():
        if issubclass(channel, Channel):
            rows[channel.postgres_name()] = _sent_by(channel)
    chosen = [rows[name] for name in resolve(options["channels"], rows) or rows]
    if options["json"]:
        write(command, chosen, as_json=True, empty="")
    else:
        command.stdout.write("\n\n".join(map(_as_text, chosen)))


def install(command: BaseCommand, options: Options) -> None:
    """Install again what is missing or outdated, as the migrations that have run say.

    In apps without migrations the code says it. Whatever is as it should be is left alone.
    """
    found = _audit(options)
    keys = _chosen(options, _keys(found))
    broken = (State.MISSING, State.OUTDATED, State.FOREIGN)
    wanting = {name: key for name, key in keys.items() if found.state_of(key) in broken}
    for name, key in wanting.items():
        if found.state_of(key) is State.FOREIGN:
            raise CommandError(
                f"The function of channel {name} is not this project's, so it is not replaced. Set "
                "another channel_name on the channel, or PGPUBSUB_OWNER to the owner that "
                "ls --json shows."
            )
    repair.install(connections[options["database"]], found, wanting.values())
    _report(command, options, wanting, "installed", "All triggers were installed already.")
    _give_privileges(command, options, keys)


def _give_privileges(command: BaseCommand, options: Options, chosen: Iterable[str]) -> None:
    """Give roles what they lack, and say what they were given, and what others have to give."""
    connection = connections[options["database"]]
    about = {None, *chosen}
    missing = [one for one in rights.lacking(connection, _audit(options)) if one.channel in about]
    for statement in rights.give(connection, missing):
        command.stderr.write(f"Done: {statement}")
    left = [_lacking(one) for one in missing if not one.is_ours_to_give]
    if left:
        raise CommandError("\n".join(f"{one.channel} {one.text}. {one.remedy}" for one in left))


def uninstall(command: BaseCommand, options: Options) -> None:
    """Drop the functions and triggers of channels until they are installed again."""
    chosen = _named(options, _functions(_audit(options)))
    _ask(command, options, chosen, "Drop the triggers of {}? Nobody is told of changes then.")
    repair.uninstall(connections[options["database"]], chosen.values())
    _report(command, options, chosen, "uninstalled", "Nothing was installed.")


def enable(command: BaseCommand, options: Options) -> None:
    """Enable the triggers of channels."""
    chosen = _chosen(options, _functions(_audit(options)))
    repair.enable(connections[options["database"]], chosen.values(), on=True)
    _report(command, options, chosen, "enabled", "Nothing is installed.")


def disable(command: BaseCommand, options: Options) -> None:
    """Disable the triggers of channels: writes go on, and nobody is told of them."""
    chosen = _named(options, _functions(_audit(options)))
    _ask(command, options, chosen, "Disable the triggers of {}? Nobody is told of changes then.")
    repair.enable(connections[options["database"]], chosen.values(), on=False)
    _report(command, options, chosen, "disabled", "Nothing is installed.")


def prune(command: BaseCommand, options: Options) -> None:
    """Drop what this project has installed and nothing asks for any more: shown first, and asked.

    Only what carries PGPUBSUB_OWNER's tag is ever touched.
    """
    left = _by_channel(_audit(options).leftovers())
    chosen = _chosen(options, left)
    for name, function in chosen.items() if options["interactive"] else ():
        tables = ", ".join(sorted({trigger.table for trigger in function.triggers}))
        command.stderr.write(f"{name}: function {function.name} on {tables or 'no table'}")
    _ask(command, options, chosen, "Drop what is left over of {}?")
    repair.uninstall(connections[options["database"]], chosen.values())
    _report(command, options, chosen, "dropped", "There is nothing to prune.")


def with_named_channels(parser: ArgumentParser) -> None:
    """Let channels be named, or all of them be meant."""
    with_channels(parser)
    with_consent(parser)


def with_left_channels(parser: ArgumentParser) -> None:
    """Let channels be named; what is left over is all meant if none is."""
    with_channels(parser)
    with_consent(parser, everything=False)


SUBCOMMANDS = (
    Subcommand(ls, with_channels),
    Subcommand(verify, with_channels),
    Subcommand(sql, with_channels),
    Subcommand(install, with_channels),
    Subcommand(uninstall, with_named_channels),
    Subcommand(enable, with_channels),
    Subcommand(disable, with_named_channels),
    Subcommand(prune, with_left_channels),
)


def _audit(options: Options) -> Audit:
    return audit(connections[options["database"]])


def _keys(found: Audit) -> dict[str, Key]:
    return {key[1]: key for key in sorted(found.expected)}


def _functions(found: Audit) -> dict[str, InstalledFunction]:
    """Return what is this project's to change."""
    return _by_channel(one for one in found.functions.values() if found.is_ours(one))


def _by_channel(functions: Iterable[InstalledFunction]) -> dict[str, InstalledFunction]:
    return {function.channel or function.name: function for function in functions}


def _chosen(options: Options, known: dict[str, T]) -> dict[str, T]:
    names = resolve(options["channels"], known) or list(known)
    return {name: known[name] for name in names}


def _named(options: Options, known: dict[str, T]) -> dict[str, T]:
    """Return what was named; everything only if that was said."""
    demand_choice(options, "channels", hint="Name channels, as ls shows them.")
    return _chosen(options, known)


def _ask(command: BaseCommand, options: Options, channels: Iterable[str], question: str) -> None:
    if names := list(channels):
        listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        ask(command, options, question.format(f"{counted(len(names), 'channel')} ({listed})"))


def _described(name: str, channel: type[BaseChannel] | None, found: Audit) -> Row:
    wanted = {key[1]: trigger for key, trigger in (found.declared | found.expected).items()}
    trigger = wanted.get(name)
    function = found.functions.get(trigger.function) if trigger else _functions(found).get(name)
    listeners = [one.path for one in registry.listeners_of(channel)] if channel else []
    return {
        "channel": name,
        "class": dotted_path(channel) if channel else None,
        "model": trigger.model if trigger else None,
        "events": list(trigger.triggers()) if trigger else [],
        "level": trigger.level if trigger else None,
        "durable": bool(channel and channel.lock_notifications),
        "listeners": listeners,
        "state": _state(name, trigger, function, found),
        "owner": function.owner if function else None,
    }


def _lacking(missing: Missing) -> Problem:
    return Problem(missing.channel or "pgpubsub_sql", missing.text, missing.remedy)


def _overview(row: Row) -> Row:
    """Return what is shown of one channel among others, so that a line is not too wide."""
    shown = {name: row[name] for name in ("channel", "model", "events", "durable", "state")}
    return shown | {"listeners": len(row["listeners"])}


def _state(
    name: str, trigger: Trigger | None, function: InstalledFunction | None, found: Audit
) -> State | None:
    if key := _keys(found).get(name):
        return found.state_of(key)
    if function and found.is_ours(function):
        return State.LEFTOVER
    return State.MISSING if trigger else None  # it waits for its migration


def _installed_by(connection: BaseDatabaseWrapper, found: Audit, key: Key) -> dict[str, Any]:
    statements = repair.installing_sql(connection, found, key)
    return {"channel": key[1], "sql": [_formatted(statement) for statement in statements]}


def _sent_by(channel: type[Channel]) -> dict[str, Any]:
    name, payloads = channel.postgres_name(), codec(channel)
    ephemeral = "pg_notify" if channel.accept_raw_notify else "pgpubsub_publish_v1"
    function = "pgpubsub_notify" if channel.lock_notifications else ephemeral
    message = json.dumps(payloads.example(), ensure_ascii=False)
    sent = f"SELECT {function}({quote_literal(name)}, {quote_literal(message)});"
    return {"channel": name, "sql": [sent], "schema": payloads.schema()}


def _as_text(row: dict[str, Any]) -> str:
    lines = [f"-- {row['channel']}", *row["sql"]]
    if "schema" in row:
        schema = json.dumps(row["schema"], indent=2, ensure_ascii=False)
        lines += [f"-- {line}" for line in schema.splitlines()]
    return "\n".join(lines)


def _formatted(statement: str) -> str:
    """Return SQL as people like to read it; as it is where sqlparse gives up on it."""
    try:
        return sqlparse.format(statement, reindent=False, strip_whitespace=False)
    except (SQLParseError, RecursionError):
        return statement


def _report(
    command: BaseCommand, options: Options, names: Iterable[str], done: str, nothing: str
) -> None:
    rows = [{"channel": name, "done": done} for name in names]
    write(command, rows, as_json=options["json"], empty=nothing)
