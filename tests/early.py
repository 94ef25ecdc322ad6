"""What processes do that tests start. Imports no Django, as they have none set up."""

import signal
import sys

from pgpubsub_sql.worker.hand import Hand
from pgpubsub_sql.worker.stopping import Stopping


def signalled_before_it_listens(number: int) -> None:
    """A signal comes before it is ready for it; exit with how often it was asked to stop."""
    signal.raise_signal(signal.Signals(number))
    with Stopping() as stopping:
        asked = stopping.asked
    if asked:
        signal.raise_signal(signal.Signals(number))  # and once more on its way out
    sys.exit(asked)


def take_what_is_inherited(hand: Hand) -> None:
    """Take something, having learnt of a predecessor's death."""
    if hand.is_inherited:
        hand.take(2**62)
