"""Goals 6, 7, 8: how soon a message is heard of, and how fast ephemeral ones are dispatched."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.children import Child, ChildFailed, check_numbers
from benchmarks.goals.writing import catch_up, copy, listening, notify_always
from benchmarks.running import Figures, Outcome, Table, Verdict, interleave, percentile, ratio
from benchmarks.stage import HERE, PEERS, PGPUBSUB, RAW, SLOW_PEERS, Contestant, Stage
from benchmarks.writing import write

RATE = 20.0
HELD_SECONDS = 0.3
WARM_UP_SECONDS = 60.0
PAUSE = 0.2
LOAD_WRITERS = 8
EVENT = "INSERT INTO project_event (sent) VALUES (extract(epoch FROM clock_timestamp()))"
EVENTS = (
    "INSERT INTO project_event (sent) "
    "SELECT extract(epoch FROM clock_timestamp()) FROM generate_series(1, {count})"
)

LATENCY_PEERS = {
    "PgQueuer, asyncpg": PEERS["PgQueuer, asyncpg"],
    "PgQueuer, asyncpg, tuned": PEERS["PgQueuer, asyncpg, tuned"],
    "procrastinate": SLOW_PEERS["procrastinate"],
    "procrastinate, tuned": SLOW_PEERS["procrastinate, tuned"],
}


def latency(stage: Stage) -> Outcome:
    """Send 20 messages a second; take the time from COMMIT to the listener."""
    where = {
        "raw loop": (RAW, stage.database(RAW)),
        "ours": (HERE, copy(stage)),
        "ours, NOTIFY always": (HERE, notify_always(stage)),
    }
    peers = {
        name: (who, stage.database(who))
        for name, who in stage.peers_that_run(LATENCY_PEERS).items()
    }
    found = interleave(
        {
            name: _latency(stage, who, database, stage.sizes.messages)
            for name, (who, database) in (where | peers).items()
        },
        stage.sizes.runs,
    )
    held = interleave(
        {
            name: _latency(stage, who, database, stage.sizes.held_messages, HELD_SECONDS)
            for name, (who, database) in where.items()
        },
        stage.sizes.runs,
    )
    tables, verdicts = [], []
    for title, runs in (("", found), (", from a transaction open for 0.3 s", held)):
        p50, p99 = _percentiles(runs, 0.5), _percentiles(runs, 0.99)
        for name, figures, bound in (("p50", p50, 1.3), ("p99", p99, 2.0)):
            tables.append(_latency_table(f"Latency{title}, {name}", figures))
            for other, most in (("raw loop", bound), ("ours, NOTIFY always", 2.0)):
                value = ratio(figures, "ours", other)
                what = f"{name}{title}: ours / {other}"
                verdicts.append(Verdict(what=what, value=value, bound=most, at_least=False))
            if title == "" and (peer := tables[-1].best_peer()):
                value = ratio(figures, "ours", peer)
                what = f"{name}: ours / the best peer, {peer}"
                verdicts.append(Verdict(what=what, value=value, bound=1.0, at_least=False))
    return Outcome(tables=tables, verdicts=verdicts)


def _latency_table(title: str, figures: Figures) -> Table:
    return Table(
        title=title,
        unit="ms",
        figures=figures,
        best_is_high=False,
        ours=("ours", "ours, NOTIFY always"),
        peers=tuple(name for name in figures if name in LATENCY_PEERS),
        limit="raw loop",
    )


def _percentiles(runs: dict[str, list[list[float]]], share: float) -> Figures:
    return {name: [percentile(one, share) for one in found] for name, found in runs.items()}


def _latency(
    stage: Stage, who: Contestant, database: str, count: int, held: float = 0.0
) -> Callable[[], list[float]]:
    """Return a run: the milliseconds of each message."""
    rate = 1 / (HELD_SECONDS + PAUSE) if held else RATE

    def run() -> list[float]:
        sender = stage.child(who, database)
        with stage.start(who, database) as receiver:
            receiver.begin("listen", kind="noop", expected=count)
            warm_up(receiver, lambda: sender.ask("send", first=0, count=1, rate=RATE))
            commits = sender.ask("send", first=1, count=count, rate=rate, held=held)["commits"]
            receiver.wait_for("reached", within=WARM_UP_SECONDS)
            heard = receiver.stop_listening()
        check_numbers(heard["numbers"], range(1, count + 1))
        times = dict(zip(heard["numbers"], heard["times"], strict=True))
        return [(times[number] - sent) * 1000 for number, sent in enumerate(commits, 1)]

    return run


def warm_up(receiver: Child, send: Callable[[], object]) -> None:
    """Send messages until one is handled."""
    for _ in range(round(WARM_UP_SECONDS / PAUSE)):
        send()
        if receiver.is_warm(within=PAUSE):
            return
    raise ChildFailed(f"{receiver.name} hears nothing.")


def load(stage: Stage) -> Outcome:
    """Find the rate that saturates a worker and its writers; take the latency at half of it."""
    database = copy(stage)
    rates: list[float] = []

    def run() -> float:
        rate, _ = events(stage, database, stage.sizes.load_seconds, None)
        rates.append(rate)
        _, lags = events(stage, database, stage.sizes.load_seconds, rate / 2)
        return percentile(lags, 0.99) * 1000

    figures = interleave({"ours": run}, stage.sizes.runs)
    tables = [
        Table(
            title="Latency at half of the saturating rate, p99",
            unit="ms",
            figures=figures,
            best_is_high=False,
            ours=("ours",),
        ),
        Table(title="Saturating rate", unit="messages/s", figures={"ours": rates}, ours=("ours",)),
    ]
    value = percentile(figures["ours"], 0.5)
    verdict = Verdict(what="p99", value=value, bound=25.0, at_least=False, unit="ms")
    return Outcome(tables=tables, verdicts=[verdict])


def events(
    stage: Stage, database: str, seconds: float, rate: float | None, *, together: int = 1
) -> tuple[float, list[float]]:
    """Write events beside a worker; return how many a second were handled, and their lags.

    Each statement writes *together* of them, and *rate* statements begin in a second.
    """
    stage.execute(database, "TRUNCATE project_event, pgpubsub_sql_notification RESTART IDENTITY")
    statement = EVENT if together == 1 else EVENTS.format(count=together)
    with listening(stage, database, "events") as (child,):
        written = write(
            stage, database, statement, writers=LOAD_WRITERS, seconds=seconds, rate=rate
        )
        behind = catch_up(stage, database)
        numbers = child.stop_listening()["numbers"]
        lags = child.ask("lags")["lags"]
    count = written.transactions * together
    check_numbers(numbers, range(1, count + 1))
    return count / (written.transactions / written.per_second + behind), lags


def ephemeral(stage: Stage) -> Outcome:
    """Send many ephemeral messages at once; count how many a second are handled."""
    peers = stage.peers_that_run({"django-pgpubsub": PGPUBSUB})
    contestants = {"raw loop": RAW, "ours": HERE, **peers}
    figures = interleave(
        {name: _dispatch(stage, who) for name, who in contestants.items()}, stage.sizes.runs
    )
    table = Table(
        title="Ephemeral dispatch",
        unit="messages/s",
        figures=figures,
        ours=("ours",),
        peers=tuple(peers),
        limit="raw loop",
    )
    verdicts = [
        Verdict(what=f"ours / {name}", value=ratio(figures, "ours", name), bound=10.0)
        for name in peers
    ]
    return Outcome(tables=[table], verdicts=verdicts)


def _dispatch(stage: Stage, who: Contestant) -> Callable[[], float]:
    """Return a run: messages a second, from the first that was handled to the last."""
    database, count = stage.database(who), stage.sizes.ephemeral

    def run() -> float:
        sender = stage.child(who)
        with stage.start(who, database) as receiver:
            receiver.begin("listen", kind="ephemeral", expected=count)
            warm_up(receiver, lambda: sender.ask("publish", first=0, count=1))
            sender.ask("publish", first=1, count=count)
            receiver.wait_for("reached")
            heard = receiver.stop_listening()
        check_numbers(heard["numbers"], range(1, count + 1))
        times = heard["times"]
        return (count - 1) / (times[-1] - times[0])

    return run
