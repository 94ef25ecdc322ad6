"""What a process does to which a signal comes before it is ready for it. Imports no Django."""

import os
import signal
import sys

from pgpubsub_sql.worker.shutdown import Lifeline, Shutdown


def signalled_before_it_listens(number: int, reader: int) -> None:
    """Exit with how often it was asked to stop."""
    signal.raise_signal(signal.Signals(number))
    lifeline = Lifeline(reader=reader, supervisor=os.getppid(), pulses=-1)
    with Shutdown(lifeline=lifeline) as shutdown:
        asked = shutdown.requests
    if asked:
        signal.raise_signal(signal.Signals(number))  # and once more on its way out
    sys.exit(asked)
