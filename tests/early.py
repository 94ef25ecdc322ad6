"""What a process does to which signals come while it begins or ends. Imports no Django."""

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


def signalled_while_it_ends(reader: int) -> None:
    """Exit once it was asked to stop, and again right after its handlers are gone."""
    lifeline = Lifeline(reader=reader, supervisor=os.getppid(), pulses=-1)
    with Shutdown(lifeline=lifeline):
        set_wakeup_fd = signal.set_wakeup_fd

        def restore(*arguments: int, **options: bool) -> int:
            signal.raise_signal(signal.SIGTERM)
            return set_wakeup_fd(*arguments, **options)

        signal.set_wakeup_fd = restore  # other handlers are set right before it is
