"""Channels with options, and listeners that do what the mood of a message says."""

from __future__ import annotations

from dataclasses import dataclass

import pgpubsub_sql
from tests.app.listeners import SILENT, behave, note


@dataclass
class LoneJob(pgpubsub_sql.Channel):
    """One transaction a message."""

    number: int
    mood: str = "good"
    lock_notifications = True
    batch_size = 1


@pgpubsub_sql.listener(LoneJob)
def do_lone_job(number: int, mood: str) -> None:
    if mood not in SILENT:
        note("do_lone_job", number=number)
    behave(mood, number)


@dataclass
class Twice(pgpubsub_sql.Channel):
    """Tried no more than twice."""

    number: int
    mood: str = "good"
    lock_notifications = True
    retry = pgpubsub_sql.Retry(max_attempts=2, delay=500, jitter=0)


@pgpubsub_sql.listener(Twice)
def do_it_twice(number: int, mood: str) -> None:
    behave(mood, number)
