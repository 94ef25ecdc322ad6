"""``manage.py pgpubsub install | uninstall | enable | disable | prune``: triggers are changed."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.installed import APP
from pgpubsub_sql.management.base import Options, Subcommand
from pgpubsub_sql.management.output import pluralize, write_json, write_rows
from pgpubsub_sql.management.prompts import add_all, add_noinput, confirm, require_selection
from pgpubsub_sql.management.selection import add_channels, resolve_channels
from pgpubsub_sql.management.subcommands.channels import audit_database
from pgpubsub_sql.migrations_ops import maintenance
from pgpubsub_sql.migrations_ops.audit import Audit
from pgpubsub_sql.migrations_ops.known_channels import expected_keys
from pgpubsub_sql.migrations_ops.problems import InstallState
from pgpubsub_sql.migrations_ops.recorded_triggers import Key
from pgpubsub_sql.migrations_ops.shared_faults import repair_faults

T = TypeVar("T")

_LISTED = 5
"""How many channels a question names."""


def install(command: BaseCommand, options: Options) -> None:
    """Bring triggers, tables and functions to the state that the migrations describe.

    Use it when verify reports differences, as after a restore, or after somebody dropped a trigger.
    It installs what is missing, replaces what differs, enables what is disabled, grants missing
    privileges, and prints what it changed. Migrations that have not run do not count; for apps
    without migrations, the code does.

      manage.py pgpubsub install
      manage.py pgpubsub install blog.AuthorChannel
    """
    connection = connections[options["database"]]
    found, rows = _repair_shared(options)
    keys = _selected(options, expected_keys(found))
    broken = [key for key in found.installable() if key in keys.values()]
    rows += [_change(found, key, "installed") for key in broken]
    maintenance.install(connection, found, broken)
    found = audit_database(options)
    disabled = [key for key in keys.values() if found.state_of(key) is InstallState.DISABLED]
    rows += [_change(found, key, "enabled") for key in disabled]
    functions = [function for key in disabled if (function := found.function_of(key))]
    maintenance.enable(connection, functions, on=True)
    rows += _grant_privileges(connection, found, keys)
    if options["json"]:
        write_json(command, rows)
    else:
        lines = [f"{one['channel'] or APP}: {one['done']} (before: {one['was']})" for one in rows]
        command.stdout.write("\n".join(lines) or "Everything is installed already.")
    _refuse_foreign(found, keys)
    _refuse_missing_privileges(found, keys)


def uninstall(command: BaseCommand, options: Options) -> None:
    """Drop the functions and triggers of channels; install brings them back.

    Use it to remove triggers at once, without a migration. The next install, and the next
    migration of the channel, install them again.

      manage.py pgpubsub uninstall blog.AuthorChannel
      manage.py pgpubsub uninstall --all --noinput
    """
    selected = _required(options, audit_database(options).owned)
    _confirm(
        command,
        options,
        selected,
        "Drop the triggers of {}? Until they are installed again, no change sends a message.",
    )
    maintenance.uninstall(connections[options["database"]], selected.values())
    _report(command, options, selected, "uninstalled", "Nothing is installed.")


def enable(command: BaseCommand, options: Options) -> None:
    """Enable the disabled triggers of channels.

    Use it after disable, or after somebody has run ALTER TABLE … DISABLE TRIGGER.

    manage.py pgpubsub enable
    manage.py pgpubsub enable blog.AuthorChannel
    """
    selected = _selected(options, audit_database(options).owned)
    maintenance.enable(connections[options["database"]], selected.values(), on=True)
    _report(command, options, selected, "enabled", "Nothing is installed.")


def disable(command: BaseCommand, options: Options) -> None:
    """Disable the triggers of channels: writes succeed, but send no message.

    Use it around a bulk load that should send nothing. It affects all sessions;
    pgpubsub_sql.ignore() affects its own transaction only.

      manage.py pgpubsub disable blog.AuthorChannel
    """
    selected = _required(options, audit_database(options).owned)
    _confirm(
        command,
        options,
        selected,
        "Disable the triggers of {}? Until they are enabled again, no change sends a message.",
    )
    maintenance.enable(connections[options["database"]], selected.values(), on=False)
    _report(command, options, selected, "disabled", "Nothing is installed.")


def prune(command: BaseCommand, options: Options) -> None:
    """Drop functions and triggers that this project installed and no longer needs.

    Use it when verify reports a leftover, for example of an app that was removed together with its
    migrations. It shows what it would drop, and asks. It looks at the current schema only, and
    never drops what belongs to another project.

      manage.py pgpubsub prune
    """
    found = audit_database(options).leftovers
    left = {one.function.channel or one.function.name: one for one in found}
    selected = _selected(options, left)
    for name, (function, reason) in selected.items() if options["interactive"] else ():
        tables = ", ".join(sorted({trigger.table for trigger in function.triggers}))
        where = f"function {function.name} on {tables or 'no table'}"
        command.stderr.write(f"{name}: {where}; {reason}")
    _confirm(command, options, selected, "Drop the leftovers of {}?")
    maintenance.uninstall(
        connections[options["database"]], [one.function for one in selected.values()]
    )
    _report(command, options, selected, "dropped", "There is nothing to prune.")


def _add_channels_and_all(parser: ArgumentParser) -> None:
    add_channels(parser)
    add_all(parser)
    add_noinput(parser)


def _add_channels_and_noinput(parser: ArgumentParser) -> None:
    add_channels(parser)
    add_noinput(parser)


SUBCOMMANDS = (
    Subcommand(install, add_channels, needs_tables=False),
    Subcommand(uninstall, _add_channels_and_all, needs_tables=False),
    Subcommand(enable, add_channels, needs_tables=False),
    Subcommand(disable, _add_channels_and_all, needs_tables=False),
    Subcommand(prune, _add_channels_and_noinput, needs_tables=False),
)


def _selected(options: Options, known: Mapping[str, T]) -> dict[str, T]:
    names = resolve_channels(options["channels"], known) or list(known)
    return {name: known[name] for name in names}


def _required(options: Options, known: Mapping[str, T]) -> dict[str, T]:
    """Return what was selected: everything only with ``--all``."""
    require_selection(options, "channels", hint="Name channels, as ls shows them.")
    return _selected(options, known)


def _confirm(
    command: BaseCommand, options: Options, channels: Iterable[str], question: str
) -> None:
    if names := list(channels):
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        confirm(command, options, question.format(f"{pluralize(len(names), 'channel')} ({listed})"))


def _repair_shared(options: Options) -> tuple[Audit, list[dict[str, str]]]:
    """Repair what all channels share; return the audit after that, and what was done."""
    connection = connections[options["database"]]
    found, rows = audit_database(options), []
    while found.faults:  # a repaired object may have other faults
        rows += [{"channel": "", "was": fault.text, "done": "repaired"} for fault in found.faults]
        repair_faults(connection, found.schema, found.faults)
        found = _audit_again(options, found)
    return found, rows


def _audit_again(options: Options, before: Audit) -> Audit:
    """Return another audit. Raises :class:`CommandError` if a fault is still there."""
    found = audit_database(options)
    if stuck := [fault.text for fault in found.faults if fault in before.faults]:
        raise CommandError(f"This cannot be repaired: {'; '.join(stuck)}.")
    return found


def _grant_privileges(
    connection: BaseDatabaseWrapper, found: Audit, selected: Iterable[str]
) -> Iterator[dict[str, str]]:
    """Grant the missing privileges that this session's role may grant, and yield them."""
    missing = [one for one in found.missing_for(selected) if one.is_ours_to_give]
    maintenance.grant(connection, missing)
    for one in missing:
        yield {"channel": one.channel or "", "was": one.text, "done": " ".join(one.statements)}


def _refuse_missing_privileges(found: Audit, selected: Iterable[str]) -> None:
    """Raise :class:`CommandError` for missing privileges that another role has to grant."""
    if missing := [one for one in found.missing_for(selected) if not one.is_ours_to_give]:
        lines = [f"{one.channel or APP} {one.text}. {one.remedy}" for one in missing]
        raise CommandError("\n".join(lines))


def _refuse_foreign(found: Audit, keys: dict[str, Key]) -> None:
    for name, key in keys.items():
        if found.state_of(key) is InstallState.FOREIGN:
            raise CommandError(
                f"The function that channel {name} needs belongs to {found.reason_of(key)}, so it "
                "is not replaced. Set another channel_name."
            )


def _change(found: Audit, key: Key, done: str) -> dict[str, str]:
    was = found.reason_of(key) or str(found.state_of(key))
    return {"channel": key[1], "was": was, "done": done}


def _report(
    command: BaseCommand, options: Options, names: Iterable[str], done: str, empty: str
) -> None:
    rows = [{"channel": name, "done": done} for name in names]
    write_rows(command, rows, as_json=options["json"], empty=empty)
