"""What django-pgpubsub has left in a database that breaks writes, or doubles or loses messages."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.channels import BaseChannel, declared_channels
from pgpubsub_sql.installed import is_predecessor_installed
from pgpubsub_sql.migrations_ops.adoption import old_name_of, shares
from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.sql import quote_identifier
from pgpubsub_sql.sql.predecessor import (
    TABLE,
    OldTrigger,
    has_old_table,
    may_read_old_table,
    old_triggers,
)

_ADOPT = "Run: python manage.py pgpubsub adopt"


def predecessor_problems(connection: BaseDatabaseWrapper) -> Iterator[Problem]:
    """Yield the triggers, and the stored messages that no worker of ours sees.

    As long as django-pgpubsub is an installed app, those of its own channels are no problem.
    """
    channels = {name: one for one in declared_channels() for name in _names(one)}
    yield from _trigger_problems(connection, channels)
    if may_read_old_table(connection):
        yield from _message_problems(connection)


def _names(channel: type[BaseChannel]) -> tuple[str, str]:
    return channel.postgres_name(), old_name_of(channel)


def _trigger_problems(
    connection: BaseDatabaseWrapper, channels: dict[str, type[BaseChannel]]
) -> Iterator[Problem]:
    triggers = old_triggers(connection)
    is_broken = bool(triggers) and not has_old_table(connection)
    for trigger in triggers:
        channel = channels.get(trigger.channel)
        name = channel.postgres_name() if channel else ""
        if trigger.is_durable and is_broken:
            yield Problem(name, f"{_named(trigger, name)}, and {_BROKEN}", _remedy(trigger))
        elif channel or not is_predecessor_installed():
            yield Problem(name, f"{_named(trigger, name)}. {_DOUBLED}", _remedy(trigger))


_BROKEN = f"every write that fires it fails, because the table {TABLE} is gone"
_DOUBLED = (
    "What it sends reaches only workers of django-pgpubsub, beside what this package sends of the "
    "same change"
)


def _named(trigger: OldTrigger, channel: str) -> str:
    if channel:
        return f"still has the trigger {trigger.name} of django-pgpubsub on {trigger.table}"
    return f"The trigger {trigger.name} on {trigger.table} is of django-pgpubsub"


def _remedy(trigger: OldTrigger) -> str:
    dropped = f"DROP TRIGGER {quote_identifier(trigger.name)} ON {trigger.table};"
    return (
        "Run: python manage.py makemigrations, and python manage.py migrate. If it is still there "
        f"after that, no migration knows it: execute {dropped}"
    )


def _message_problems(connection: BaseDatabaseWrapper) -> Iterator[Problem]:
    alias = connection.alias
    option = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
    for share in shares(connection):
        if share.channel or not is_predecessor_installed():
            name = share.channel.postgres_name() if share.channel else ""
            number = f"{share.stored.number} of django-pgpubsub's messages"
            where = f"waiting in {TABLE}, as {share.stored.name}"
            text = f"has {number} {where}" if name else f"There are {number} {where}"
            yield Problem(name, text, f"{_ADOPT}{option}")
