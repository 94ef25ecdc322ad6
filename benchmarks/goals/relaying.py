"""From one database to another through a cluster of three: how many, and how soon."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Child, check_numbers
from benchmarks.goals.receiving import warm_up
from benchmarks.running import Outcome, Table, Verdict, interleave, median, percentile
from benchmarks.stage import Contestant, Stage, contestant
from example.relay.servers import BINARY, Nats

PUBLISHER, RECEIVER = contestant("relay", role="publish"), contestant("relay", role="receive")
RATE = 20.0
SYNCED = "sync_interval: always"


def relay(stage: Stage) -> Outcome:
    """Relay a backlog, and then messages one by one; from COMMIT to COMMIT."""
    if not Path(BINARY).exists():
        return Outcome(tables=[], verdicts=[], notes=["nats-server is not installed."])
    with ExitStack() as stack:
        clusters = {
            "": stack.enter_context(Nats(3)),
            ", sync always": stack.enter_context(Nats(3, jetstream=SYNCED)),
        }
        names = {
            f"{partitions} partition{'s' * (partitions > 1)}{suffix}": Way(stage, nats, partitions)
            for suffix, nats in clusters.items()
            for partitions in stage.sizes.partitions
        }
        found = interleave({name: way.measure for name, way in names.items()}, stage.sizes.runs)
    rates = {name: [rate for rate, _ in runs] for name, runs in found.items()}
    ours = tuple(names)
    tables = [
        Table(title="Relaying a backlog", unit="messages/s", figures=rates, ours=ours),
        *(
            Table(
                title=f"Latency of the relay, {word}",
                unit="ms",
                figures={
                    name: [percentile(lags, share) for _, lags in runs]
                    for name, runs in found.items()
                },
                best_is_high=False,
                ours=ours,
            )
            for word, share in (("p50", 0.5), ("p99", 0.99))
        ),
    ]
    first = ours[0]
    verdict = Verdict(what=first, value=median(rates[first]), bound=5000.0, unit="messages/s")
    note = "Both databases are on one server, and three nats-servers share its processors."
    return Outcome(tables=tables, verdicts=[verdict], notes=[note])


@dataclass
class Way:
    """From a database of its own to another, by *partitions* streams of a cluster."""

    stage: Stage
    nats: Nats
    partitions: int

    def measure(self) -> tuple[float, list[float]]:
        """Return how many messages of a backlog are received a second, and the lags of others."""
        with self._open() as (sender, publisher, receiver):
            sender.ask("store", workload="", count=self.stage.sizes.backlog)
            receiver.begin("listen", kind="", expected=self.stage.sizes.backlog)
            publisher.begin("listen", kind="")
            rate = self._catch_up(receiver)
            receiver.begin("listen", kind="", expected=self.stage.sizes.messages)
            lags = self._lags(sender, receiver)
            publisher.stop_listening()
        return rate, lags

    def _catch_up(self, receiver: Child) -> float:
        receiver.wait_for("reached")
        heard = receiver.stop_listening()
        check_numbers(heard["numbers"], range(1, self.stage.sizes.backlog + 1))
        return len(heard["numbers"]) / (heard["times"][-1] - heard["times"][0])

    def _lags(self, sender: Child, receiver: Child) -> list[float]:
        """Return the milliseconds of each message, from COMMIT to COMMIT."""
        count = self.stage.sizes.messages
        warm_up(receiver, lambda: sender.ask("send", first=0, count=1, rate=RATE))
        commits = sender.ask("send", first=1, count=count, rate=RATE)["commits"]
        receiver.wait_for("reached")
        heard = receiver.stop_listening()
        check_numbers(heard["numbers"], range(1, count + 1))
        times = dict(zip(heard["numbers"], heard["times"], strict=True))
        return [(times[number] - sent) * 1000 for number, sent in enumerate(commits, 1)]

    @contextmanager
    def _open(self) -> Iterator[tuple[Child, Child, Child]]:
        """Yield a sender, a publisher and a receiver, with streams of their own between them."""
        origin = uuid.uuid4().hex
        given = {"servers": self.nats.urls, "origin": origin, "partitions": self.partitions}
        received = {"servers": self.nats.urls, "sources": [origin]}
        with ExitStack() as stack:
            start: Callable[[Contestant, str, object], Child] = lambda who, name, relay: (  # noqa: E731
                stack.enter_context(self.stage.start(who, name, RELAY=json.dumps(relay)))
            )
            source = self.stage.create_database(self.stage.template(PUBLISHER))
            target = self.stage.create_database(self.stage.template(RECEIVER))
            yield (
                start(PUBLISHER, source, given),
                start(PUBLISHER, source, given),
                start(RECEIVER, target, received),
            )
