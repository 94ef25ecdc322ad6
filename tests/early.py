"""What a process does to which a signal comes before it is ready for it. Imports no Django."""

import signal
import sys

from pgpubsub_sql.worker.stopping import Stopping


def signalled_before_it_listens(number: int) -> None:
    """Exit with how often it was asked to stop."""
    signal.raise_signal(signal.Signals(number))
    with Stopping() as stopping:
        asked = stopping.asked
    if asked:
        signal.raise_signal(signal.Signals(number))  # and once more on its way out
    sys.exit(asked)
