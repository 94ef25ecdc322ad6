"""What is played with every package."""

from __future__ import annotations

from collections import Counter
from itertools import product

from tests.ecosystem.trial import Failure, Trial

MEANS = ("orm", "atomic", "cursor", "copy", "on_commit")
DURABLE = ("fulfil", "stock")
EPHEMERAL = ("spread", "announce")
ALL = (*DURABLE, *EPHEMERAL)
PARKED = """
    SELECT (payload ->> 'number')::int, attempts FROM pgpubsub_sql_notification
    WHERE channel = 'shop.Order' AND available_at IS NULL
"""


class Ledger:
    """What listeners must have done in a schema, no more and no less."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._wanted: Counter[tuple[str, int, str]] = Counter()

    def expect(self, *calls: tuple[str, int]) -> None:
        """Wait until these have been made, too, and nothing is besides."""
        self._wanted.update((*call, means) for call in calls for means in MEANS)
        self._trial.wait(lambda: self._done() == self._wanted, self._difference)

    def _done(self) -> Counter[tuple[str, int, str]]:
        return Counter(self._trial.sql("SELECT listener, number, means FROM shop_done"))

    def _difference(self) -> str:
        done = self._done()
        missing, surplus = self._wanted - done, done - self._wanted
        return f"missing: {_told(missing)}; too much: {_told(surplus)}"


def _told(entries: Counter[tuple[str, int, str]]) -> str:
    return ", ".join(" ".join(map(str, entry)) for entry in sorted(entries)) or "nothing"


def ordinary(trial: Trial) -> None:
    """Play with a project that lives in one schema."""
    install(trial)
    play(trial)


def install(trial: Trial) -> None:
    """Write migrations, and run them."""
    makemigrations = f"makemigrations {' '.join(trial.package.apps)}"
    trial.manage("steps", makemigrations, *trial.package.migrations)


def play(trial: Trial) -> None:
    """Send by all ways, fail, replay; drain without a supervisor; fork."""
    ledger = Ledger(trial)
    with trial.listening(*trial.package.supervised):
        trial.manage("buy", "1:good", "2:once", "3:broken", "4:good")
        say(trial, 5)
        ledger.expect(*product(ALL, (1, 2, 4, 5)), *product(("stock", *EPHEMERAL), (3,)))
        park(trial, 3)
        trial.sql("INSERT INTO shop_mended DEFAULT VALUES")
        trial.manage("steps", "pgpubsub verify", "pgpubsub replay shop.Order")
        ledger.expect(("fulfil", 3))
    say(trial, 6)
    trial.manage("listen", "--drain", "--worker")
    ledger.expect(*product(DURABLE, (6,)))
    with trial.listening("--worker-start-method", "fork", "--processes", "2", times=2):
        say(trial, 7)
        ledger.expect(*product(ALL, (7,)), *product(EPHEMERAL, (7,)))
    if left := trial.sql("SELECT channel, attempts, last_error FROM pgpubsub_sql_notification"):
        raise Failure(f"still stored: {left}")


def say(trial: Trial, number: int) -> None:
    """Send on every channel, with SQL alone."""
    trial.sql("INSERT INTO shop_item (name) VALUES (%s)", str(number))
    payload = "jsonb_build_object('number', %s)"
    trial.sql(f"SELECT pgpubsub_notify('shop.Order', {payload})", number)
    trial.sql(f"SELECT pg_notify('shop.Rumour', {payload}::text)", number)


def park(trial: Trial, number: int) -> None:
    """Wait until an order is parked, after its three attempts."""
    trial.wait(
        lambda: trial.sql(PARKED) == [(number, 3)],
        lambda: f"not parked after 3 attempts: {trial.sql(PARKED)}",
    )


def of_tenants(trial: Trial) -> None:
    """Play for one tenant while a worker listens for another; listeners turn to it at their end."""
    install(trial)
    acme, globex = trial.within("acme"), trial.within("globex")
    acme.refuses("listen", because="--worker-start-method fork")
    with globex.listening("--worker"):
        play(acme)
        say(globex, 8)
        # A raw pg_notify() does not say for whom it is, so that it is for every tenant.
        Ledger(globex).expect(*product(["spread"], (5, 6, 7)), *product(ALL, (8,)))


def refused(trial: Trial) -> None:
    """LISTEN cannot work here, and says so; what is stored can be drained."""
    install(trial)
    say(trial, 1)
    with trial.listening(until="A pooler in transaction mode") as worker:
        if "Listening to" in worker.text:
            raise Failure("listens where it cannot hear", worker.text)
    ledger = Ledger(trial)
    trial.manage("listen", "--drain")
    ledger.expect(*product(DURABLE, (1,)))
