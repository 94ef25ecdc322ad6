"""The process that does the work: it creates, starts, stops and removes.

It has the standard library and this package, nothing else: see ``link``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess

from pgpubsub_sql.embedded.cluster import open_cluster
from pgpubsub_sql.embedded.postmaster import Postmaster
from pgpubsub_sql.embedded.protocol import ORDERS, Plan, report
from pgpubsub_sql.embedded.signals import STOP_SIGNALS, leave_it_to_the_wakeup
from pgpubsub_sql.embedded.site import open_site
from pgpubsub_sql.errors import ServerError

_CHILD_ENDED, _STOP = b"", b"s"


def keep(text: str) -> None:
    plan = Plan(**json.loads(text))
    inbox = _Inbox(plan.parent)
    try:
        with (
            open_site(plan) as site,
            open_cluster(site) as (data, log),
            Postmaster(site, data, log) as postmaster,
        ):
            _obey(inbox, postmaster)
    except (OSError, ServerError, subprocess.SubprocessError) as error:
        report(failed=str(error))


def _obey(inbox: _Inbox, postmaster: Postmaster) -> None:
    again = True
    while again:
        order = inbox.next_order()
        if order == _CHILD_ENDED:
            postmaster.report_exit()
            continue
        again, mode = ORDERS[order]
        postmaster.stop(mode)
        if again:
            postmaster.start()


class _Inbox:
    """Orders from the parent; its death, and a signal, are orders to stop."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, leave_it_to_the_wakeup)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def next_order(self) -> bytes:
        # The pipe does not end while a process that the parent forked holds a copy of it: hence
        # the look at the parent itself once a second.
        while os.getppid() == self._parent:
            ready, _, _ = select.select([0, self._signals], [], [], 1)
            if 0 in ready:
                return os.read(0, 1) or _STOP
            if ready:
                return _STOP if STOP_SIGNALS & {*os.read(self._signals, 64)} else _CHILD_ENDED
        return _STOP
