"""Results as text, Markdown, JSON and plots."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.environments import PINS, ROOT
from benchmarks.goals import GOALS, Goal
from benchmarks.plots import number_text, plot
from benchmarks.running import Outcome, Table, Verdict, median
from benchmarks.stage import Stage

SYNCS = 200
PAGE = b"x" * 8192
HEADINGS = ("", "median", "min", "max", "/ best peer", "/ limit")


def describe(stage: Stage, arguments: list[str]) -> dict[str, Any]:
    """Return what the figures depend on."""
    git = ["git", "-C", str(ROOT)]
    # What earlier measurements have written is no change of what is measured.
    others = [*git, "diff", "--quiet", "HEAD", "--", ":!docs/_static/performance"]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = "-dirty" * (subprocess.run(others, check=False).returncode == 1)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit.stdout.strip() + changed,
        "command": shlex.join(["python", "-m", "benchmarks", *arguments]),
        "python": platform.python_version(),
        "postgresql": stage.execute("postgres", "SHOW server_version"),
        "fsync": stage.execute("postgres", "SHOW fsync"),
        "synchronous_commit": stage.execute("postgres", "SHOW synchronous_commit"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1),
        "fdatasync_us": round(sync_seconds() * 1e6),
        "peers": PINS if stage.peers else {},
        "sizes": dataclasses.asdict(stage.sizes),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """Return the facts that stand above a table."""
    return (
        f"{facts['date']}, commit {facts['commit']}: Python {facts['python']}, PostgreSQL "
        f"{facts['postgresql']} (fsync {facts['fsync']}, synchronous_commit "
        f"{facts['synchronous_commit']}), {facts['cores']} cores ({facts['processor']}), load "
        f"{facts['load']}, fdatasync {facts['fdatasync_us']} µs; runs: {facts['sizes']['runs']}"
    )


def sync_seconds() -> float:
    """Return the median time to write a page to the disk."""
    took = []
    with tempfile.TemporaryFile(dir=ROOT) as file:
        for _ in range(SYNCS):
            file.write(PAGE)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took)


def print_outcome(goal: Goal, outcome: Outcome) -> None:
    """Print the tables of a goal, and whether it is met."""
    print(f"\n{goal.heading}")
    for table in outcome.tables:
        print(f"\n  {table.title}, {table.unit}")
        for cells in (HEADINGS, *_rows(table)):
            name, *numbers = cells
            print(f"    {name:<48}" + "".join(f"{cell:>13}" for cell in numbers))
    print()
    for verdict in outcome.verdicts:
        print(f"  {_state(verdict):<6} {verdict.what}: {_comparison(verdict)}")
    for note in outcome.notes:
        print(f"  {note}")
    sys.stdout.flush()


def write(directory: Path, facts: dict[str, Any], goal: Goal, outcome: Outcome) -> None:
    """Write what was found of a goal, and gather what is known of all in ``results.md``."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob(f"{goal.name}-*.svg"):
        old.unlink()
    found = json.dumps(facts | _as_json(outcome), indent=1)
    (directory / f"{goal.name}.json").write_text(found + "\n")
    (directory / f"{goal.name}.md").write_text(_page(directory, facts, goal, outcome))
    pages = [directory / f"{name}.md" for name in GOALS]
    text = "\n".join(page.read_text() for page in pages if page.exists())
    (directory / "results.md").write_text(text)


def _page(directory: Path, facts: dict[str, Any], goal: Goal, outcome: Outcome) -> str:
    """Return the Markdown of a goal, and write its plots."""
    verdicts = [
        (verdict.what, _value(verdict), _bound(verdict), "yes" if verdict.is_met else "**no**")
        for verdict in outcome.verdicts
    ]
    parts = [f"## {goal.heading}\n", f"`{facts['command']}`, {machine_line(facts)}.\n"]
    parts += [_markdown(("goal", "figure", "bound", "met"), verdicts)] if verdicts else []
    for number, table in enumerate(outcome.tables, 1):
        file = directory / f"{goal.name}-{number}.svg"
        file.write_text(plot(table))
        parts.append(f"![{table.title}]({file.name})\n")
        parts.append(_markdown((table.unit, *HEADINGS[1:]), _rows(table)))
    return "\n".join(parts + [f"{note}\n" for note in outcome.notes])


def _markdown(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    rule = ("---", *["---:"] * (len(headings) - 1))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows)) + "\n"


def _rows(table: Table) -> list[tuple[str, ...]]:
    """Return the cells of a table."""
    return [
        (
            name,
            *(number_text(of(runs)) for of in (median, min, max)),
            *(_quotient(table, name, other) for other in (table.best_peer(), table.limit)),
        )
        for name, runs in table.figures.items()
    ]


def _quotient(table: Table, name: str, other: str | None) -> str:
    if other is None or not (below := median(table.figures[other])):
        return ""
    return f"{number_text(median(table.figures[name]) / below)} x"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "tables": [
            {"title": table.title, "unit": table.unit, "figures": table.figures}
            for table in outcome.tables
        ],
        "verdicts": [
            dataclasses.asdict(verdict) | {"is_met": verdict.is_met} for verdict in outcome.verdicts
        ],
        "notes": outcome.notes,
    }


def _state(verdict: Verdict) -> str:
    return "met" if verdict.is_met else "SHORT"


def _value(verdict: Verdict) -> str:
    return f"{number_text(verdict.value)} {verdict.unit}".strip()


def _bound(verdict: Verdict) -> str:
    return f"{'≥' if verdict.at_least else '≤'} {number_text(verdict.bound)} {verdict.unit}".strip()


def _comparison(verdict: Verdict) -> str:
    return f"{_value(verdict)} (goal: {_bound(verdict)})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
