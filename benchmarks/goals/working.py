"""Goals 9 to 13: what a worker needs, and how long it keeps its pace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from benchmarks.children import Child, check_counts
from benchmarks.environments import ROOT
from benchmarks.goals.receiving import EVENTS, LOAD_WRITERS, events
from benchmarks.goals.writing import READY, catch_up, copy, listening
from benchmarks.running import Outcome, Table, Verdict, interleave, median, ratio
from benchmarks.stage import HERE, WARM_UP, Stage
from benchmarks.writing import write

SMALL_PROJECT = 10
SAMPLES = 20
TOGETHER = 20
"""Rows of a statement of goal `endurance`, so that millions pass in minutes."""
TRANSACTIONS = (
    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"
)
SIZES = {
    "table": "SELECT pg_table_size('pgpubsub_sql_notification')",
    "indexes": "SELECT pg_indexes_size('pgpubsub_sql_notification')",
}
SETTLING_SECONDS = 12.0
"""PostgreSQL counts what a session has done up to ten seconds later, once that is idle."""


def held(stage: Stage) -> Outcome:
    """Drain while another session holds a transaction open, and while none does."""
    count, child = stage.sizes.passing, stage.child(HERE)
    child.ask("drain", workload="noop", count=WARM_UP)

    def drain() -> tuple[float, float]:
        report = child.ask("drain", workload="noop", count=count)
        check_counts(report, count)
        return count / report["seconds"], report["restarting"] / report["seconds"]

    def drain_under_transaction() -> tuple[float, float]:
        connection = stage.connect(stage.database(HERE))
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT pg_current_xact_id()")
            try:
                return drain()
            finally:
                cursor.execute("COMMIT")

    found = interleave(
        {"ours": drain, "ours, transaction held open": drain_under_transaction}, stage.sizes.runs
    )
    rates = {name: [rate for rate, _ in runs] for name, runs in found.items()}
    shares = {name: [share * 100 for _, share in runs] for name, runs in found.items()}
    title = f"Draining {count:,} messages under a long transaction"
    return Outcome(
        tables=[
            Table(title=title, unit="messages/s", figures=rates, ours=tuple(rates)),
            Table(
                title="Searches from the start",
                unit="% of the time",
                figures=shares,
                best_is_high=False,
                ours=tuple(shares),
            ),
        ],
        verdicts=[
            Verdict(
                what="held open / not",
                value=ratio(rates, "ours, transaction held open", "ours"),
                bound=0.7,
            ),
            Verdict(
                what="searches from the start",
                value=median(shares["ours, transaction held open"]),
                bound=2.0,
                at_least=False,
                unit="%",
            ),
        ],
    )


def idle(stage: Stage) -> Outcome:
    """Leave a worker alone; count its transactions and its processor time."""
    return _idle(stage, "events", "Idle worker")


def _idle(stage: Stage, kind: str, title: str, **environment: str) -> Outcome:
    database, seconds = copy(stage), stage.sizes.idle_seconds
    shares: list[float] = []

    def run() -> float:
        with listening(stage, database, kind, **environment) as (child,):
            time.sleep(min(SETTLING_SECONDS, seconds))
            transactions, ticks = _transactions(stage, database), _ticks(child)
            time.sleep(seconds)
            shares.append((_ticks(child) - ticks) / seconds * 100)
            found = (_transactions(stage, database) - transactions) / seconds * 5
            child.stop_listening()
        return found

    figures = interleave({"ours": run}, stage.sizes.runs)
    tables = [
        Table(title=f"{title}, {what}", unit=unit, figures=of, best_is_high=False, ours=("ours",))
        for what, unit, of in (
            ("queries", "in 5 s", figures),
            ("processor", "% of a core", {"ours": shares}),
        )
    ]
    verdicts = [
        Verdict(
            what=f"{title}, {what}", value=median(values), bound=bound, at_least=False, unit=unit
        )
        for what, values, bound, unit in (
            ("queries in 5 s", figures["ours"], 1.0, ""),
            ("processor", shares, 0.1, "%"),
        )
    ]
    return Outcome(tables=tables, verdicts=verdicts)


def _transactions(stage: Stage, database: str) -> int:
    return int(stage.execute("postgres", TRANSACTIONS.format(database=database)))


def _ticks(child: Child) -> float:
    """Return the processor time of a process in seconds."""
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(stage: Stage) -> Outcome:
    """Take the peak of a worker's memory while it drains many messages, and large ones."""
    database = copy(stage)

    def growth(workload: str, count: int) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            with stage.start(HERE, database) as child:
                check_counts(child.ask("drain", workload="noop", count=1000), 1000)
                before = child.ask("memory", forget=True)["now"]
                report = child.ask("drain", workload=workload, count=count)
                check_counts(report, count)
                return before, report["peak"]

        return run

    many, large = stage.sizes.passing, stage.sizes.large
    found = interleave(
        {"many": growth("noop", many), "large": growth("large", large)}, stage.sizes.runs
    )
    figures = {
        "at the start": [before / 1024 for before, _ in found["many"]],
        f"{many:,} messages": [peak / 1024 for _, peak in found["many"]],
        f"{large:,} messages of 1 MB": [peak / 1024 for _, peak in found["large"]],
    }
    table = Table(
        title="Peak of a worker's memory",
        unit="MB",
        figures=figures,
        best_is_high=False,
        ours=tuple(figures),
    )
    most = median(peak / before for before, peak in found["many"])
    more = median((peak - before) / 1024 for before, peak in found["large"])
    verdicts = [
        Verdict(what=f"{many:,} messages / start", value=most, bound=1.5, at_least=False),
        Verdict(
            what=f"{large:,} messages of 1 MB", value=more, bound=100, at_least=False, unit="MB"
        ),
    ]
    return Outcome(tables=[table], verdicts=verdicts)


def endurance(stage: Stage) -> Outcome:
    """Let many messages pass at a steady rate; watch the rate and the size of the table."""
    database = copy(stage)
    rate, _ = events(stage, database, stage.sizes.load_seconds, None, together=TOGETHER)
    seconds = max(1.0, stage.sizes.endurance / (rate / 2))
    samples: list[dict[str, float]] = []
    # Its numbers are what is handled, so they begin anew before the first sample.
    stage.execute(database, "TRUNCATE project_event RESTART IDENTITY")
    with (
        listening(stage, database, "events") as (child,),
        _sampling(stage, database, samples, seconds / SAMPLES),
    ):
        written = write(
            stage,
            database,
            EVENTS.format(count=TOGETHER),
            writers=LOAD_WRITERS,
            seconds=seconds,
            rate=rate / 2 / TOGETHER,
        )
        catch_up(stage, database)
        numbers = child.stop_listening()["numbers"]
    count = written.transactions * TOGETHER
    check_counts({"handled": len(numbers), "distinct": len(set(numbers)), "left": 0}, count)
    later = samples[len(samples) // 10 :] or samples
    figures = {name: [sample[name] for sample in later] for name in later[0]}
    units = {"handled": "messages/s", "table": "MB", "indexes": "MB"}
    tables = [
        Table(
            title=f"{count:,} messages at a steady rate, {name}",
            unit=units[name],
            figures={"ours": values},
            ours=("ours",),
        )
        for name, values in figures.items()
    ]
    verdicts = [
        Verdict(
            what=f"{name}, least below most",
            value=1 - min(values) / max(values) if max(values) else 0.0,
            bound=0.25,
            at_least=False,
            unit="",
        )
        for name, values in figures.items()
    ]
    return Outcome(tables=tables, verdicts=verdicts)


@contextmanager
def _sampling(
    stage: Stage, database: str, samples: list[dict[str, float]], pause: float
) -> Iterator[None]:
    """Note again and again how many messages were handled a second, and the sizes in MB."""
    ended = Event()

    def sample() -> None:
        handled, at = _handled(stage, database), time.monotonic()
        while not ended.wait(pause):
            now, then = _handled(stage, database), time.monotonic()
            sizes = {name: stage.execute(database, of) / 1e6 for name, of in SIZES.items()}
            samples.append({"handled": (now - handled) / (then - at), **sizes})
            handled, at = now, then

    thread = Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _handled(stage: Stage, database: str) -> int:
    # In one snapshot: otherwise what is written between two counts as handled.
    return int(
        stage.execute(database, f"SELECT coalesce(max(id), 0) - ({READY}) FROM project_event")
    )


def channels(stage: Stage) -> Outcome:
    """Start ``listen`` and ``ls`` in a project of few channels and in one of many."""
    many = stage.sizes.channels
    database = copy(stage)
    figures = interleave(
        {
            f"{command}, {count:,} channels": _starting(stage, database, arguments, count)
            for command, arguments in (
                ("listen --drain", ["listen", "--worker", "--drain"]),
                ("ls", ["pgpubsub", "ls"]),
            )
            for count in (SMALL_PROJECT, many)
        },
        stage.sizes.runs,
    )
    verdicts = [
        Verdict(
            what=f"{command}, {many:,} / {SMALL_PROJECT} channels",
            value=ratio(
                figures,
                f"{command}, {many:,} channels",
                f"{command}, {SMALL_PROJECT} channels",
            ),
            bound=2.0,
            at_least=False,
        )
        for command in ("listen --drain", "ls")
    ]
    table = Table(
        title="Commands of a project of many channels",
        unit="s",
        figures=figures,
        best_is_high=False,
        ours=tuple(figures),
    )
    of_idle = _idle(stage, "all", f"Idle worker of {many:,} channels", BENCHMARK_CHANNELS=str(many))
    return Outcome(tables=[table, *of_idle.tables], verdicts=verdicts + of_idle.verdicts)


def _starting(stage: Stage, database: str, arguments: list[str], count: int) -> Callable[[], float]:
    """Return a run: the seconds that a command takes."""
    environment = os.environ | stage.server.environment()
    environment |= {"PGDATABASE": database, "BENCHMARK_CHANNELS": str(count)}
    command = [sys.executable, "-m", "benchmarks.programs.manage", *arguments]

    def run() -> float:
        started = time.perf_counter()
        subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - started

    return run
