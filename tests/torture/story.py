"""A storm, a calm, an audit."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.models import Notification
from tests.conftest import eventually
from tests.torture import report
from tests.torture.audit import audit
from tests.torture.calamities import Calamities
from tests.torture.fleet import Fleet
from tests.torture.forger import Forger
from tests.torture.models import Handled
from tests.torture.network import Network
from tests.torture.registrar import Registrar, begin, complete_the_books, is_filling
from tests.torture.stage import prepare
from tests.torture.surprises import surprises
from tests.torture.writers import KINDS, Writer

PATIENCE_SECONDS = 60.0
"""Within this time every worker must be back: that which has died often is restarted after half
of it. Workers that drain may be slow, but not stand still for so long."""


def run(server: Server, directory: Path, seed: str, seconds: float) -> int:
    """Return the exit status."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    prepare()
    begin()
    report.begin(seed, seconds)
    with (
        Network(f"{server.host}/.s.PGSQL.{server.port}") as network,
        Fleet(directory, network.environment()) as fleet,
    ):
        fleet.await_all(PATIENCE_SECONDS)
        calamities = Calamities(server, network, fleet, seed)
        registrar = Registrar(seed, seconds)
        with writers(seed) as writing, beside(Forger(seed)), beside(registrar):
            calamities.rage(seconds)
        calm = time.monotonic()
        drain(fleet)
        drained = time.monotonic() - calm
        try:
            fleet.await_all(PATIENCE_SECONDS)
        except AssertionError:
            fleet.problems.append("Not every worker has come back")
        fleet.stop()
        complete_the_books()
        wrong = audit()
        if strange := fleet.problems + surprises(fleet.logs()):
            wrong["surprises"] = strange
        counts = calamities.counts + registrar.counts
        report.account([*writing, calamities.poisoner], counts, drained)
        report.verdict(wrong)
        if wrong:
            keep(server, directory)
    return int(bool(wrong))


@contextmanager
def writers(seed: str) -> Iterator[list[Writer]]:
    """Let writers of every kind write meanwhile."""
    stopping = threading.Event()
    writing = [Writer(number, kind, seed, stopping) for number, kind in enumerate(KINDS, 1)]
    for writer in writing:
        writer.start()
    try:
        yield writing
        assert all(writer.is_alive() for writer in writing)
    finally:
        stopping.set()
        for writer in writing:
            writer.join()


@contextmanager
def beside(one: Forger | Registrar) -> Iterator[None]:
    """Let somebody do what it does meanwhile."""
    one.start()
    try:
        yield
        assert one.is_alive()
    finally:
        one.stopping.set()
        one.join()


def drain(fleet: Fleet) -> None:
    """Wait until everything is handled, or nothing more is: the audit tells what is left then."""
    connection.close()

    def is_drained() -> bool:
        fleet.mend()
        return not (is_filling() or Notification.objects.exclude(available_at=None).exists())

    handled = -1
    while handled != (handled := Handled.objects.count()):
        with contextlib.suppress(AssertionError):
            eventually(is_drained, within=PATIENCE_SECONDS)
            return


def keep(server: Server, directory: Path) -> None:
    """Put the logs where they stay."""
    kept = tempfile.mkdtemp(prefix="torture-logs-")
    shutil.copytree(directory, kept, dirs_exist_ok=True)
    if server.log is not None:
        shutil.copy(server.log, kept)
    report.say(f"The logs are in {kept}.")
