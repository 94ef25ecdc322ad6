"""``make demo-relay``: orders go from one database to another while servers are killed.

Three nats-servers, two PostgreSQL servers, two Django projects. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise

from example.demo.interruption import Interruption, InterruptionError
from example.relay.project import Project
from example.relay.servers import Nats, Node
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream
from pgpubsub_sql.relay.settings import RelaySettings

SETTLE_SECONDS = 120.0
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the orders."""

    sent: int
    handled: int
    lost: int
    twice: int
    out_of_order: int

    @property
    def is_good(self) -> bool:
        """Whether each was handled once, those of a customer in order."""
        return self.sent > 0 and not (self.lost or self.twice or self.out_of_order)


def settle(placed: list[tuple[str, int]], taken: list[tuple[str, int]]) -> Account:
    """Compare what was committed in the shop with what the office has handled, in order."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for customer, number in taken:
        numbers[customer].append(number)
    return Account(
        sent=len(placed),
        handled=len(taken),
        lost=len({*placed} - {*taken}),
        twice=len(taken) - len({*taken}),
        out_of_order=sum(b < a for found in numbers.values() for a, b in pairwise(found)),
    )


class Demo:
    """The story, told step by step."""

    def __init__(
        self, nats: Nats, shop: Project, office: Project, check: Callable[[], None]
    ) -> None:
        self._nats, self._shop, self._office = nats, shop, office
        self._check = check

    def run(self, seconds: float) -> Account:
        """Send for so many *seconds*, kill servers meanwhile, and return what became of it."""
        self._set_up()
        publisher = self._shop.start("listen", "--relay")
        self._office.start("listen", "--relay")
        self._office.start("listen")
        customers = self._shop.start("place")
        self._disturb(publisher, seconds / 5)
        self._shop.end(customers)
        return self._settled()

    def _set_up(self) -> None:
        for project in (self._shop, self._office):
            self._insist(lambda one=project: one.manage("pgpubsub", "relay", "--setup"))

    def _insist(self, do: Callable[[], object]) -> None:
        """Do it again while the new cluster has no leader yet."""
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                do()
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > until:
                    raise
            self._wait(0.5)

    def _disturb(self, publisher: subprocess.Popen[bytes], pause: float) -> None:
        self._wait(pause)
        leader = self._leader()
        self._say(f"kill -9 of the leader, nats-server {leader.number}")
        leader.kill()
        self._wait(pause)
        self._say("kill -9 of the relay in the shop, and a new one")
        self._shop.kill(publisher)
        self._shop.start("listen", "--relay")
        self._wait(pause)
        self._say(f"nats-server {leader.number} is back; PostgreSQL of the office crashes")
        self._nats.start()
        self._office.server.restart("immediate")
        self._wait(pause)
        self._say("PostgreSQL of the shop crashes")
        self._shop.server.restart("immediate")
        self._wait(pause)

    def _leader(self) -> Node:
        stream = Stream(origin="shop", channel="shop.Order", generation=1, partition=0)
        with Broker(RelaySettings(servers=tuple(self._nats.urls))) as broker:
            cluster = broker.run(broker.api(f"STREAM.INFO.{stream}"))["cluster"]
        return next(one for one in self._nats.nodes if cluster.get("leader") == f"n{one.number}")

    def _settled(self) -> Account:
        """Wait until everything is handled; return what it came to."""
        placed = self._shop.rows("SELECT customer, number FROM shop_placed")
        self._say(f"no more orders; {len(placed):,} were sent")
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            taken = self._office.rows("SELECT customer, number FROM office_taken ORDER BY id")
            if len(taken) >= len(placed) or time.monotonic() > until:
                return settle(placed, taken)
            self._wait(0.2)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            time.sleep(min(0.05, seconds))

    @staticmethod
    def _say(what: str) -> None:
        print(f"  {what}", flush=True)


def show(account: Account) -> None:
    """Print the table."""
    names = [field.name for field in fields(account)]
    print("\n  " + "".join(f"{name.replace('_', ' ').upper():>14}" for name in names))
    print("  " + "".join(f"{getattr(account, name):>14,}" for name in names))
    verdict = "Every order was handled once, in order." if account.is_good else "NOT AS PROMISED."
    print(f"\n  {verdict}", flush=True)


def main() -> int:
    """Run the demo; return its exit status."""
    parser = argparse.ArgumentParser(prog="make demo-relay", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="How long orders come (20).")
    seconds = parser.parse_args().seconds
    with Interruption() as interruption:
        try:
            print("  three nats-servers, two PostgreSQL servers, two projects", flush=True)
            with (
                Nats(3) as nats,
                Project("shop", nats.urls) as shop,
                Project("office", nats.urls) as office,
            ):
                account = Demo(nats, shop, office, interruption.check).run(seconds)
        except InterruptionError:
            print("Interrupted: everything is stopped and removed.", file=sys.stderr)
            return INTERRUPTED
    show(account)
    return 0 if account.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
