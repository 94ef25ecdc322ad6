"""``listen --reload``: runs the command in a child process, anew whenever a file has changed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from pgpubsub_sql.django_internals import command_line
from pgpubsub_sql.management.watching import Files
from pgpubsub_sql.worker.shutdown import SIGNALS, Shutdown

logger = logging.getLogger("pgpubsub_sql.supervisor")

TOLD = "PGPUBSUB_RELOADER"
"""Variable in the child's environment: the end of a pipe that closes when its parent ends."""
LOOK_SECONDS = 1.0
LOOK_SHARE = 10
"""The time between two looks is at least this many times the processor time of the last one."""
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
"""Exit statuses of a child that was asked to stop once, before it had begun to work."""


class Reloader:
    """Runs this process's command line in a child, until it is asked to stop.

    If a file changes, it asks the child to stop, as SIGTERM does: the messages in flight are
    finished. Then it starts the next child, with the new code. If that ends by itself, for example
    because the new code has a syntax error, it waits for the next change. The first child's end is
    its own end: there is no other code that would help.

    Asked to stop, it passes that on, each time.
    """

    def __init__(self) -> None:
        self._files = Files()
        self._line = command_line()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_outdated = False
        """Whether a file has changed since the child was started."""
        self._has_changed = False
        """Whether a file has changed since this process was started."""
        self._code = 0
        """Exit status of the last child that has ended."""

    def run(self) -> int:
        """Run until it is asked to stop; return the exit status for this process."""
        self._lifeline, writer = os.pipe()
        with Shutdown(awaits_children=True) as shutdown:
            self._start()
            while not shutdown.is_requested() and (self._child or self._has_changed):
                shutdown.wait(timeout=self._look())
                if self._reap() and not shutdown.is_requested():
                    self._explain()
            self._stop(shutdown)
        for number in SIGNALS:  # they come too late to change anything
            signal.signal(number, signal.SIG_IGN)
        os.close(self._lifeline)
        os.close(writer)
        return self._code

    def _look(self) -> float:
        """React to changes of files; return the seconds until the next look."""
        started = time.process_time()
        if changed := self._files.changed():
            self._change(changed)
        if self._is_outdated and self._child is None:
            self._start()
        return max(LOOK_SECONDS, LOOK_SHARE * (time.process_time() - started))

    def _change(self, changed: list[Path]) -> None:
        if not self._is_outdated:
            others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            message = "%s%s changed: `listen` starts anew once the messages in flight are finished"
            logger.info(message, min(changed), others)
            if self._child:  # once: a second signal would abort
                self._child.terminate()
        self._is_outdated = self._has_changed = True

    def _start(self) -> None:
        self._is_outdated = False
        self._child = subprocess.Popen(  # noqa: S603
            self._line,
            env=os.environ | {TOLD: str(self._lifeline)},
            pass_fds=[self._lifeline],
        )

    def _reap(self) -> bool:
        """Return whether the child has just ended."""
        if self._child is None or (code := self._child.poll()) is None:
            return False
        self._child, self._code = None, 128 - code if code < 0 else code
        return True

    def _explain(self) -> None:
        """Log what comes next if the child has ended, and neither a change nor anybody asked it."""
        if self._has_changed and not self._is_outdated:
            message = (
                "`listen` has ended with exit status %s; the reason is above. It is started again "
                "once a file changes"
            )
            logger.error(message, self._code)

    def _stop(self, shutdown: Shutdown) -> None:
        """Ask the child to stop as often as this process was asked, until it has ended."""
        told = 0
        while self._child:
            if shutdown.requests > told:
                told = shutdown.requests
                self._child.terminate()
            shutdown.wait()
            self._reap()
        if told < 2 and self._code in _STOPPED:
            self._code = 0


def follow_reloader() -> bool:
    """Return whether this process is the child of a :class:`Reloader`; if so, end with it."""
    if (lifeline := os.environ.pop(TOLD, None)) is None:
        return False
    threading.Thread(target=_follow, args=(int(lifeline),), daemon=True).start()
    return True


def _follow(lifeline: int) -> None:
    """Ask this process to stop once its parent has ended."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
