"""How much is measured. Each field is an option of ``python -m benchmarks``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _size(full: Any, help: str) -> Any:
    return field(default=full, metadata={"help": help})


@dataclass(frozen=True)
class Sizes:
    """The full sizes; QUICK and SMOKE are smaller."""

    runs: int = _size(5, "rounds; in each, every contestant has one run")
    backlog: int = _size(50_000, "stored messages to drain")
    backlogs: tuple[int, ...] = _size((1_000, 10_000, 100_000, 1_000_000), "goal `backlogs`")
    slow_backlog: int = _size(3_000, "stored messages for the peers below 1,000 a second")
    inserts: int = _size(5_000, "stored messages whose listener makes an ORM insert")
    writers: tuple[int, ...] = _size((1, 4, 16, 32, 64), "concurrent writers; goal `writers`")
    workers: tuple[int, ...] = _size((0, 1, 3), "workers beside them; goal `writers`")
    writing_seconds: float = _size(3.0, "seconds of writing in each run")
    rows: int = _size(100_000, "rows of the bulk statement; goal `statements`")
    statements: int = _size(5_000, "one-row statements; goal `statements`")
    messages: int = _size(400, "messages whose latency is measured, 20 a second")
    held_messages: int = _size(20, "messages from transactions held open for 0.3 s")
    load_seconds: float = _size(10.0, "seconds of steady load; goal `load`")
    ephemeral: int = _size(100_000, "messages; goal `ephemeral`")
    passing: int = _size(1_000_000, "messages; goals `held` and `memory`")
    large: int = _size(400, "messages of a megabyte; goal `memory`")
    idle_seconds: float = _size(30.0, "seconds of idleness; goals `idle` and `channels`")
    endurance: int = _size(10_000_000, "messages; goal `endurance`")
    partitions: tuple[int, ...] = _size((1, 2, 4), "streams of a channel; goal `relay`")
    channels: int = _size(1_000, "channels of the large project; goal `channels`")
    processes: tuple[int, ...] = _size((1, 2, 4), "processes that drain together; goal `workers`")
    payloads: tuple[int, ...] = _size(
        (100, 1_000, 10_000, 100_000, 1_000_000), "bytes of each; goal `payloads`"
    )
    spread: tuple[int, ...] = _size((1, 10, 100, 1_000), "channels of a backlog; goal `spread`")
    listeners: tuple[int, ...] = _size((1, 10, 100), "idle sessions; goal `listeners`")
    rates: tuple[int, ...] = _size((10, 100, 1_000, 3_000), "messages a second; goal `rates`")


FULL = Sizes()
QUICK = Sizes(
    runs=2,
    backlog=5_000,
    backlogs=(500, 2_000, 10_000),
    slow_backlog=200,
    inserts=500,
    writers=(32,),
    workers=(0, 1),
    writing_seconds=1.0,
    rows=10_000,
    statements=1_000,
    messages=40,
    held_messages=3,
    load_seconds=1.0,
    ephemeral=5_000,
    passing=20_000,
    large=20,
    idle_seconds=3.0,
    endurance=20_000,
    partitions=(1,),
    channels=200,
    processes=(1, 2),
    payloads=(100, 10_000, 1_000_000),
    spread=(1, 10, 100),
    listeners=(1, 10),
    rates=(10, 1_000),
)
SMOKE = Sizes(
    runs=1,
    backlog=50,
    backlogs=(10, 50),
    slow_backlog=10,
    inserts=10,
    writers=(2,),
    workers=(0, 1),
    writing_seconds=1.0,
    rows=50,
    statements=5,
    messages=5,
    held_messages=1,
    load_seconds=1.0,
    ephemeral=50,
    passing=100,
    large=2,
    idle_seconds=0.2,
    endurance=100,
    partitions=(1,),
    channels=20,
    processes=(1, 2),
    payloads=(100, 10_000),
    spread=(1, 3),
    listeners=(1,),
    rates=(10,),
)
SCALES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}
