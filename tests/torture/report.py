"""What is printed: plain text that fits into 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgpubsub_sql.models import Notification
from tests.ledger import sql
from tests.torture.audit import QUERIES
from tests.torture.writers import Writer

EXAMPLES = 5

FIGURES = """
    SELECT kind, count(DISTINCT written.id) FILTER (WHERE is_certain OR handled.id IS NOT NULL),
        count(handled.id), count(*) FILTER (WHERE handled.attempts > 0),
        count(*) FILTER (WHERE is_to_park)
    FROM torture_written AS written LEFT JOIN torture_handled AS handled
    USING (channel, writer, number) GROUP BY kind"""


def say(text: str = "") -> None:
    print(text, flush=True)


def begin(seed: str, seconds: float) -> None:
    """Say what it takes to run it again."""
    ((version,),) = sql("SHOW server_version")
    say(f"Torture for {seconds:g} seconds, PostgreSQL {version}, TORTURE_SEED={seed}")


def account(writers: Sequence[Writer], calamities: Mapping[str, int], drained: float) -> None:
    """Say what was done."""
    figures = {kind: counts for kind, *counts in sql(FIGURES)}
    table = {}
    for writer in writers:
        committed, *handled = figures.get(writer.kind, [0, 0, 0, 0])
        table[writer.kind] = [committed, writer.sent - committed, *handled]
    table["all"] = [sum(column) for column in zip(*table.values(), strict=True)]
    say()
    _row("WRITTEN BY", ["COMMITTED", "ROLLED BACK", "HANDLED", "BY RETRY", "TO PARK"])
    for kind, counts in table.items():
        _row(kind, [f"{count:,}" for count in counts])
    say()
    for calamity, count in sorted(calamities.items()):
        say(f"  {calamity:<34}{count:>10,}")
    failures = sum(writer.failures for writer in writers)
    say(f"  {'transactions of writers failed':<34}{failures:>10,}")
    say(f"  {'parked':<34}{Notification.objects.parked().count():>10,}")
    say(f"  {'drained after seconds':<34}{drained:>10.1f}")
    say()


def verdict(wrong: Mapping[str, Sequence[Any]]) -> None:
    """Say what went wrong, with examples."""
    for name in [*QUERIES, "surprises"]:
        say(f"  {name:<34}{len(wrong.get(name, ())):>10,}")
        for example in wrong.get(name, ())[:EXAMPLES]:
            say(f"    {example}")


def _row(name: str, cells: Sequence[str]) -> None:
    say(f"  {name:<16}" + "".join(f"{cell:>12}" for cell in cells))
