"""Goals 1, 2, 3: how fast one process drains what is stored."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.running import Outcome, Table, Verdict, flatness, interleave, ratio
from benchmarks.stage import DRIVER_HERE, PEERS, PGPUBSUB, SLOW_PEERS, Stage

WORKLOADS = ("noop", "typed", "from_db", "keyed")


def drain(stage: Stage) -> Outcome:
    """Drain one backlog: ours, peers and the raw loop of each driver."""
    backlog, slow = stage.sizes.backlog, stage.sizes.slow_backlog
    ours = {
        f"ours, {driver}, {workload}": stage.drain(who, workload, backlog)
        for driver, who in stage.drivers().items()
        for workload in WORKLOADS
    }
    raw = {
        f"raw loop, {driver}{suffix}": stage.drain(who, f"raw{suffix}", backlog)
        for driver, who in stage.drivers().items()
        for suffix in ("", " typed")
    }
    peers = {
        name: stage.drain(who, "noop", backlog) for name, who in stage.peers_that_run(PEERS).items()
    } | {
        name: stage.drain(who, "noop", slow)
        for name, who in stage.peers_that_run(SLOW_PEERS).items()
    }
    figures = interleave(raw | ours | peers, stage.sizes.runs)
    table = Table(
        title="Draining stored messages, one process",
        unit="messages/s",
        figures=figures,
        ours=tuple(ours),
        peers=tuple(peers),
        limit=f"raw loop, {DRIVER_HERE}",
    )
    return Outcome(tables=[table], verdicts=_drain_verdicts(table, stage.drivers()))


def _drain_verdicts(table: Table, drivers: Iterable[str]) -> list[Verdict]:
    figures, verdicts = table.figures, []
    for driver in drivers:
        for workload, raw, share in (
            ("noop", "", 0.5),
            ("typed", " typed", 0.4),
            ("from_db", " typed", 0.25),
        ):
            value = ratio(figures, f"ours, {driver}, {workload}", f"raw loop, {driver}{raw}")
            what = f"{workload} / raw loop, {driver}"
            verdicts.append(Verdict(what=what, value=value, bound=share))
    for peer, bound in (("PgQueuer", 6.0), ("django-pgpubsub", 150.0)):
        if named := [name for name in figures if name.startswith(peer)]:
            value = min(ratio(figures, f"ours, {DRIVER_HERE}, noop", name) for name in named)
            what = f"no-op / {peer} at its best tuning"
            verdicts.append(Verdict(what=what, value=value, bound=bound))
    return verdicts


def backlogs(stage: Stage) -> Outcome:
    """Drain backlogs of several sizes."""
    sizes = stage.sizes.backlogs
    names = {
        driver: {size: f"ours, {driver}, {size:,} stored" for size in sizes}
        for driver in stage.drivers()
    }
    figures = interleave(
        {
            name: stage.drain(stage.drivers()[driver], "noop", size)
            for driver, of_driver in names.items()
            for size, name in of_driver.items()
        },
        stage.sizes.runs,
    )
    table = Table(
        title="Draining backlogs of several sizes, no-op",
        unit="messages/s",
        figures=figures,
        ours=tuple(figures),
        series={f"ours, {driver}": of_driver for driver, of_driver in names.items()},
        x_label="stored messages",
    )
    verdicts = [
        Verdict(
            what=f"slowest below quickest, {driver}",
            value=flatness(figures, of_driver.values()),
            bound=0.25,
            at_least=False,
            unit="",
        )
        for driver, of_driver in names.items()
    ]
    return Outcome(tables=[table], verdicts=verdicts)


def inserts(stage: Stage) -> Outcome:
    """Drain messages of which each is one ORM insert, by one call for each or for many."""
    ours = {
        f"ours, {driver}{suffix}": stage.drain(who, workload, stage.sizes.inserts)
        for driver, who in stage.drivers().items()
        for workload, suffix in (("insert", ""), ("insert lists", ", batch listener"))
    }
    plain = {
        f"plain loop, {driver}": stage.drain(who, "plain insert", stage.sizes.inserts)
        for driver, who in stage.drivers().items()
    }
    peers = {
        name: stage.drain(who, "insert", stage.sizes.slow_backlog)
        for name, who in stage.peers_that_run(
            {name: who for name, who in SLOW_PEERS.items() if who.program == PGPUBSUB.program}
        ).items()
    }
    figures = interleave(plain | ours | peers, stage.sizes.runs)
    verdicts = [
        Verdict(
            what=f"share of the plain loop, {driver}",
            value=ratio(figures, f"ours, {driver}", f"plain loop, {driver}"),
            bound=0.8,
        )
        for driver in stage.drivers()
    ]
    verdicts += [
        Verdict(
            what=f"batch listener / listener, {driver}",
            value=ratio(figures, f"ours, {driver}, batch listener", f"ours, {driver}"),
            bound=5.0,
        )
        for driver in stage.drivers()
    ]
    if peers:
        value = min(ratio(figures, f"ours, {DRIVER_HERE}", name) for name in peers)
        verdicts.append(Verdict(what="ours / django-pgpubsub", value=value, bound=5.0))
    table = Table(
        title="One ORM insert for each message",
        unit="messages/s",
        figures=figures,
        ours=tuple(ours),
        peers=tuple(peers),
        limit=f"plain loop, {DRIVER_HERE}",
    )
    return Outcome(tables=[table], verdicts=verdicts)
