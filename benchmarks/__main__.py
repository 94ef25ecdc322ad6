"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import CACHE
from benchmarks.goals import GOALS, Goal
from benchmarks.reporting import describe, machine_line, print_outcome, write
from benchmarks.sizes import FULL, SCALES, Sizes
from benchmarks.stage import Stage
from pgpubsub_sql.embedded import Server

EXAMPLES = """
examples:
  python -m benchmarks                               every goal, in full
  python -m benchmarks --scale quick                 every goal, with smaller sizes
  python -m benchmarks drain writers                 two goals
  python -m benchmarks drain --backlog 20000 --runs 3
  python -m benchmarks writers --writers 1 32 --no-peers

Every run checks that each message was handled exactly once, that of peers included. A goal that is
not met is shown as SHORT; it is no error.
"""


def main(arguments: Sequence[str] | None = None, server: Server | None = None) -> int:
    """Measure the goals that *arguments* choose, on *server* or on one of its own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    sizes = _sizes(options)
    goals = [GOALS[name] for name in options.goals or GOALS]
    if server is not None:
        _measure(Stage(server, sizes, options.peers), goals, options.out, given)
        return 0
    # Without settings it is as durable as PostgreSQL's defaults; 64 writers need connections.
    with Server(settings={"max_connections": 200}) as own:
        _measure(Stage(own, sizes, options.peers), goals, options.out, given)
    return 0


def _measure(stage: Stage, goals: list[Goal], out: Path, given: list[str]) -> None:
    """Measure goals one by one, and write what was found after each."""
    with stage:
        facts = describe(stage, given)
        print(machine_line(facts))
        for goal in goals:
            stage.left_out.clear()
            found = goal.measure(stage)
            notes = [*found.notes, *dict.fromkeys(stage.left_out)]
            outcome = dataclasses.replace(found, notes=notes)
            print_outcome(goal, outcome)
            write(out, facts, goal, outcome)
    print(f"\nWritten to {out}: results.md, and figures and plots of each goal.")


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  {goal.number or '':>2} {goal.name:<12} {goal.description}" for goal in GOALS.values()
    ]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure goals, side by side with peers and the raw limit.",
        epilog="\n".join(["goals:", *lines, EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("goals", nargs="*", metavar="GOAL", choices=[*GOALS, []], help="all")
    parser.add_argument("--scale", choices=SCALES, default="full", help="sizes to start from")
    parser.add_argument(
        "--no-peers", dest="peers", action="store_false", help="measure ours and the limit only"
    )
    parser.add_argument(
        "--out", type=Path, default=CACHE / "results", metavar="DIR", help="where results go"
    )
    sizes = parser.add_argument_group("sizes", "Each overrides what --scale says.")
    for field in dataclasses.fields(Sizes):
        value = getattr(FULL, field.name)
        is_list = isinstance(value, tuple)
        sizes.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(value[0] if is_list else value),
            nargs="+" if is_list else None,
            metavar="N",
            help=f"{field.metadata['help']} ({value})",
        )
    return parser


def _sizes(options: argparse.Namespace) -> Sizes:
    scale = SCALES[options.scale]
    given = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in dataclasses.fields(Sizes)
        if (value := getattr(options, field.name)) is not None
    }
    return dataclasses.replace(scale, **given)


if __name__ == "__main__":
    sys.exit(main())
