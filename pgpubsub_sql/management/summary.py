"""What ``listen`` says before it begins: what it will do, what waits for it, and how to stop it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from django.db import DEFAULT_DB_ALIAS

from pgpubsub_sql.channels import BaseChannel, find_channel
from pgpubsub_sql.inspection import StoredCounts, capped, stored_counts
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.output import pluralize
from pgpubsub_sql.migrations_ops.audit import Audit
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.processes import WorkerOptions
from pgpubsub_sql.worker.shutdown import GRACE_SECONDS

logger = logging.getLogger("pgpubsub_sql.worker")

MOST_CHANNELS = 20
"""How many channels are named; the other lines stand for any number."""


def log_summary(options: WorkerOptions, found: Audit | None) -> None:
    """Log what workers with these *options* will do; *found* is unknown to some roles."""
    channels = [find_channel(name) for name in options.channels]
    lanes = [Lane(*names) for names in options.lanes] or registry.lanes_of(channels)
    stored = stored_counts(options.database, lanes)
    logger.info("In %s: %s", options.place, _total(channels))
    named = dict.fromkeys(options.channels[:MOST_CHANNELS])
    for lane in (one for one in lanes if one.channel in named):
        logger.info("  %s", "; ".join(_described(stored[lane])), extra=lane._asdict())
    if left := channels[MOST_CHANNELS:]:
        logger.info("  and %s: python manage.py pgpubsub ls", pluralize(len(left), "other channel"))
    if found and found.unapplied:
        logger.info("%s", _unapplied(found))
    if not options.drain:
        message = (
            "To stop: Ctrl-C, or SIGTERM, which finishes the messages in flight. The same again, "
            "at least %g s later, aborts them"
        )
        logger.info(message, GRACE_SECONDS)


def _total(channels: Sequence[type[BaseChannel]]) -> str:
    listeners = sum(len(registry.listeners_of(channel)) for channel in channels)
    return f"{pluralize(len(channels), 'channel')}, {pluralize(listeners, 'listener')}"


def _described(stored: StoredCounts) -> Iterator[str]:
    channel = find_channel(stored.lane.channel)
    kind = "durable" if channel.lock_notifications else "ephemeral"
    yield f"{stored.lane}, {kind}"
    if counts := ", ".join(_counts(stored)):
        yield counts
    if stored.paused_seconds is not None:
        yield "paused"
    if stored.filled:
        yield "being filled with what was sent before"
    name = stored.lane.subscription if channel.lock_notifications else None
    yield f"calls {', '.join(one.path for one in registry.listeners_of(channel, name))}"


def _counts(stored: StoredCounts) -> Iterator[str]:
    """Yield how many messages are stored, by state, without those that are none."""
    for word in ("ready", "waiting", "parked"):
        if number := getattr(stored, word):
            yield f"{capped(number)} {word}"


def _unapplied(found: Audit) -> str:
    labels = sorted({label for label, _ in found.unapplied})
    database = "" if found.alias == DEFAULT_DB_ALIAS else f" --database {found.alias}"
    number = pluralize(len(found.unapplied), "migration")
    return (
        f"Not applied yet: {number} of {', '.join(labels)}. Run: python manage.py migrate{database}"
    )
