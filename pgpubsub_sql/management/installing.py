"""``manage.py pgpubsub ls | verify | sql | install | uninstall | enable | disable | prune``."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlparse
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from sqlparse.exceptions import SQLParseError

from pgpubsub_sql.channels import BaseChannel, Channel, codec, declared_channels, dotted_path
from pgpubsub_sql.installed import APP
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
from pgpubsub_sql.migrations_ops import repair, shared
from pgpubsub_sql.migrations_ops.audit import Audit, audit
from pgpubsub_sql.migrations_ops.history import Key
from pgpubsub_sql.migrations_ops.problems import State
from pgpubsub_sql.sql import quote_literal
from pgpubsub_sql.sql.catalogue import InstalledFunction
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
    names = dict.fromkeys([*declared, *_keys(found), *_seen(found)])
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
    problems = list(found.problems())
    if options["channels"]:
        names = [channel.postgres_name() for channel in declared_channels()]
        chosen = resolve(options["channels"], [*names, *(one.channel for one in problems)])
        problems = [one for one in problems if one.channel in chosen or not one.channel]
    rows = [problem._asdict() for problem in problems]
    if options["json"]:
        write(command, rows, as_json=True, empty="")
    else:
        lines = [f"{one.sentence} {one.remedy}" for one in problems]
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
    """Bring the database to what the migrations that have run say, and say what was changed.

    First the tables and functions that all channels share, then the triggers of channels: what is
    missing is installed, what differs is replaced, and what is disabled is enabled. In apps without
    migrations the code says what is wanted. Whatever is as it should be is left alone.
    """
    connection = connections[options["database"]]
    found, rows = _audit(options), []
    while found.faults:  # what is brought back may have others
        rows += [{"channel": "", "was": fault.text, "done": "mended"} for fault in found.faults]
        shared.mend(connection, found.schema, found.faults)
        found = _refreshed(options, found)
    keys = _chosen(options, _keys(found))
    broken = [key for key in found.installable() if key in keys.values()]
    rows += [_changed(found, key, "installed") for key in broken]
    repair.install(connection, found, broken)
    found = _audit(options)
    silent = [key for key in keys.values() if found.state_of(key) is State.DISABLED]
    rows += [_changed(found, key, "enabled") for key in silent]
    functions = [function for key in silent if (function := found.function_of(key))]
    repair.enable(connection, functions, on=True)
    rows += _give_privileges(connection, found, keys)
    if options["json"]:
        show_json(command, rows)
    else:
        lines = [f"{one['channel'] or APP}: {one['done']} ({one['was']})" for one in rows]
        command.stdout.write("\n".join(lines) or "All was installed already.")
    _refuse_foreign(found, keys)
    _refuse_hopeless(found, keys)


def uninstall(command: BaseCommand, options: Options) -> None:
    """Drop the functions and triggers of channels until they are installed again."""
    chosen = _named(options, _audit(options).owned())
    _ask(command, options, chosen, "Drop the triggers of {}? Nobody is told of changes then.")
    repair.uninstall(connections[options["database"]], chosen.values())
    _report(command, options, chosen, "uninstalled", "Nothing was installed.")


def enable(command: BaseCommand, options: Options) -> None:
    """Enable the triggers of channels."""
    chosen = _chosen(options, _audit(options).owned())
    repair.enable(connections[options["database"]], chosen.values(), on=True)
    _report(command, options, chosen, "enabled", "Nothing is installed.")


def disable(command: BaseCommand, options: Options) -> None:
    """Disable the triggers of channels: writes go on, and nobody is told of them."""
    chosen = _named(options, _audit(options).owned())
    _ask(command, options, chosen, "Disable the triggers of {}? Nobody is told of changes then.")
    repair.enable(connections[options["database"]], chosen.values(), on=False)
    _report(command, options, chosen, "disabled", "Nothing is installed.")


def prune(command: BaseCommand, options: Options) -> None:
    """Drop what this project has installed and nothing asks for any more: shown first, and asked.

    Of this schema, and only what a migration of this project has to do with.
    """
    left = {one.function.channel or one.function.name: one for one in _audit(options).leftovers()}
    chosen = _chosen(options, left)
    for name, (function, reason) in chosen.items() if options["interactive"] else ():
        tables = ", ".join(sorted({trigger.table for trigger in function.triggers}))
        where = f"function {function.name} on {tables or 'no table'}"
        command.stderr.write(f"{name}: {where}; {reason}")
    _ask(command, options, chosen, "Drop what is left over of {}?")
    repair.uninstall(connections[options["database"]], [one.function for one in chosen.values()])
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


def _seen(found: Audit) -> dict[str, InstalledFunction]:
    """Return what is installed in this schema, be it another project's."""
    here = [one for one in found.functions.values() if one.is_current]
    return {one.channel or one.name: one for one in here} | found.owned()


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


def _refreshed(options: Options, before: Audit) -> Audit:
    """Look again, now that it was mended. Raises :class:`CommandError` where that did not help."""
    found = _audit(options)
    if stuck := [fault.text for fault in found.faults if fault in before.faults]:
        raise CommandError(f"This cannot be mended: {'; '.join(stuck)}.")
    return found


def _give_privileges(
    connection: BaseDatabaseWrapper, found: Audit, chosen: Iterable[str]
) -> Iterator[dict[str, str]]:
    """Give roles what they lack, where that is ours to give; return what they were given."""
    missing = [one for one in found.missing_for(chosen) if one.is_ours_to_give]
    repair.give(connection, missing)
    for one in missing:
        yield {"channel": one.channel or "", "was": one.text, "done": " ".join(one.statements)}


def _refuse_hopeless(found: Audit, chosen: Iterable[str]) -> None:
    """Raise :class:`CommandError` for what others have to give."""
    if hopeless := [one for one in found.missing_for(chosen) if not one.is_ours_to_give]:
        lines = [f"{one.channel or APP} {one.text}. {one.remedy}" for one in hopeless]
        raise CommandError("\n".join(lines))


def _refuse_foreign(found: Audit, keys: dict[str, Key]) -> None:
    for name, key in keys.items():
        if found.state_of(key) is State.FOREIGN:
            raise CommandError(
                f"The function of channel {name} belongs to {found.reason_of(key)}, so it is not "
                "replaced. Set another channel_name."
            )


def _changed(found: Audit, key: Key, done: str) -> dict[str, str]:
    was = found.reason_of(key) or str(found.state_of(key))
    return {"channel": key[1], "was": was, "done": done}


def _described(name: str, channel: type[BaseChannel] | None, found: Audit) -> Row:
    wanted = {key[1]: trigger for key, trigger in (found.declared | found.expected).items()}
    trigger = wanted.get(name)
    function = found.functions.get(trigger.function) if trigger else _seen(found).get(name)
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
        "app": function.app if function else None,
    }


def _overview(row: Row) -> Row:
    """Return what is shown of one channel among others, so that a line is not too wide."""
    shown = {name: row[name] for name in ("channel", "model", "events", "durable", "state")}
    return shown | {"listeners": len(row["listeners"])}


def _state(
    name: str, trigger: Trigger | None, function: InstalledFunction | None, found: Audit
) -> State | None:
    if key := _keys(found).get(name):
        return found.state_of(key)
    if name in found.owned():
        return State.LEFTOVER
    if function and not trigger:
        return State.FOREIGN
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
