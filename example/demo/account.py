"""The account: what was sent against what the ledger says was handled.

Two books that know nothing of each other. The writers fill in ``Sent`` once a transaction has
committed; the listeners fill the ledger. Only ``settle`` sees both.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

Entry = tuple[str, int]
"""Of the ledger: a message, and the process that handled it."""


class Sent:
    """What was sent on each channel, and which processes were there to hear it."""

    def __init__(self, *, durable: Iterable[str], ephemeral: Iterable[str]) -> None:
        self.durable = frozenset(durable)
        self.messages: dict[str, dict[str, set[int]]] = {
            name: {} for name in (*durable, *ephemeral)
        }
        """For each channel its messages; for each message the processes that must hear it."""
        self._audience: set[int] = set()

    def __len__(self) -> int:
        return sum(map(len, self.messages.values()))

    def add(self, channel: str, message: str) -> None:
        """Note a message that was committed.

        Raises :class:`ValueError` if its name is taken: a second one could not be told apart.
        """
        if message in self.messages[channel]:
            raise ValueError(f"{channel}: {message!r} was sent already.")
        self.messages[channel][message] = self._audience.copy()

    def join(self, pid: int) -> None:
        """Note that a process listens from now on."""
        self._audience.add(pid)

    def leave(self, pid: int) -> None:
        """Note that a process is dead: what it has not heard yet, it need not hear."""
        self._audience.discard(pid)
        for audiences in self.messages.values():
            for audience in audiences.values():
                audience.discard(pid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One channel's line of the account."""

    channel: str
    durable: bool
    sent: int
    handled: int
    """Messages that were sent and that at least one process handled."""
    lost: list[str]
    """Durable: nobody handled it. Ephemeral: nobody, or not every process that was there."""
    twice: list[str]
    """Durable: handled more than once. Ephemeral: more than once by one and the same process."""
    ghosts: list[str]
    """Handled, but never sent: rolled back, or altered on its way."""

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.twice or self.ghosts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """How it ended."""

    lines: list[Line]
    left: int
    """Stored notifications that are there still: somebody would handle them later."""

    @property
    def is_good(self) -> bool:
        return not self.left and all(line.is_good for line in self.lines)


def settle(sent: Sent, ledger: Mapping[str, Iterable[Entry]]) -> list[Line]:
    """Compare what was sent with the entries of each channel in the ledger."""
    return [
        _line(channel, channel in sent.durable, expected, ledger.get(channel, ()))
        for channel, expected in sent.messages.items()
    ]


def _line(
    channel: str, durable: bool, expected: Mapping[str, set[int]], entries: Iterable[Entry]
) -> Line:
    times: dict[str, Counter[int]] = defaultdict(Counter)
    for message, pid in entries:
        times[message][pid] += 1
    return Line(
        channel=channel,
        durable=durable,
        sent=len(expected),
        handled=len(expected.keys() & times.keys()),
        lost=[
            message
            for message, audience in expected.items()
            if message not in times or (not durable and audience - times[message].keys())
        ],
        twice=[
            message
            for message, count in times.items()
            if (count.total() if durable else max(count.values())) > 1
        ],
        ghosts=[message for message in times if message not in expected],
    )
