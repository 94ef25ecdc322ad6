"""What the demo prints: plain text that fits into 80 columns."""

import textwrap
import time
from typing import TextIO

from example.demo.account import Account, Line

_SECONDS_BETWEEN_LINES = 2.0
_EXAMPLES = 3


class Report:
    """Prints to *out*; on a terminal, progress stays on one line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._printed_progress = time.monotonic()

    def say(self, text: str = "") -> None:
        self._write(text + "\n")

    def setting(self, what: str, how: str) -> None:
        for line in textwrap.wrap(how, 58):
            self.say(f"  {what:<18}{line}")
            what = ""

    def head(self) -> None:
        self.say()
        self._columns("WHO WRITES", "WHAT", "SENT", "HANDLED")

    def step(self, who: str, what: str, sent: int, handled: int) -> None:
        self._printed_progress = time.monotonic()
        self._columns(who, what, f"{sent:,}", f"{handled:,}")

    def progress(self, sent: int, handled: int) -> None:
        """Tell how far it is: all the time on a terminal, elsewhere now and then."""
        text = f"  waiting: {handled:,} of {sent:,} messages are handled"
        if self._is_terminal:
            self._write(f"\r{text:<78}")
        elif time.monotonic() - self._printed_progress > _SECONDS_BETWEEN_LINES:
            self._printed_progress = time.monotonic()
            self.say(text)

    def end_progress(self) -> None:
        if self._is_terminal:
            self._write("\r" + " " * 78 + "\r")

    def account(self, account: Account) -> None:
        """Print the table, and examples of what is wrong."""
        self._row("CHANNEL", "HANDLED BY", "SENT", "HANDLED", "LOST", "TWICE", "GHOSTS")
        for line in account.lines:
            by = "one worker, once" if line.durable else "every worker"
            counts = line.sent, line.handled, len(line.lost), len(line.twice), len(line.ghosts)
            self._row(line.channel, by, *(f"{count:,}" for count in counts))
        self.say()
        for line in account.lines:
            self._examples(line)
        if account.left:
            self.say(f"  Still stored, and not handled: {account.left:,} notifications.")

    def _examples(self, line: Line) -> None:
        for kind in ("lost", "twice", "ghosts"):
            for message in getattr(line, kind)[:_EXAMPLES]:
                self.say(f"  {kind}: {line.channel}: {message}")

    def _columns(self, who: str, what: str, sent: str, handled: str) -> None:
        self.say(f"  {who:<18}{what:<42}{sent:>8}{handled:>9}")

    def _row(self, channel: str, by: str, *counts: str) -> None:
        self.say(f"  {channel:<16}{by:<18}" + "".join(f"{count:>8}" for count in counts))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
