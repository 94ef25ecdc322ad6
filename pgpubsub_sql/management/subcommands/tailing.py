"""``manage.py pgpubsub tail``: show what is sent, while it is sent, without handling it."""

from __future__ import annotations

import datetime
import json
import re
import select
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.errors import PayloadError
from pgpubsub_sql.management.base import Options, Subcommand, fetch, positive
from pgpubsub_sql.management.output import one_line, output_width, pluralize, truncate
from pgpubsub_sql.management.selection import add_channels, resolve_channels
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.worker.connections import TAIL
from pgpubsub_sql.worker.decoding import decode_headers, without_envelope
from pgpubsub_sql.worker.doorbell import Doorbell, Notify
from pgpubsub_sql.worker.outages import first_line

LOOK_SECONDS = 0.005
"""Time between two looks for stored messages, which are gone once a worker has handled them."""
REST_SECONDS = 0.05
"""The same while nothing has been sent for :data:`LINGER_SECONDS`: writers then notify the workers,
which sleep, and it hears that, too."""
LINGER_SECONDS = 1.0
LOOK_SHARE = 4
"""It is at least this many times as long as the last look took."""
OUT_OF_ORDER = 1000
"""How much lower the id of a message may be than that of one whose transaction ended before."""
_SECRET = re.compile(
    r"passw|passphrase|secret|token|api_?key|credential|authorization|cookie", re.IGNORECASE
)
HIDDEN = "***"


def tail(command: BaseCommand, options: Options) -> None:
    """Show messages while they are sent, without handling them. Ctrl-C ends it.

    It shows when a message was sent, its channel, the application_name of the session that has sent
    it, and its fields. Values of fields like password or token are hidden. A message of a durable
    channel is missed if a worker has handled it within milliseconds; its sender is unknown.

      manage.py pgpubsub tail
      manage.py pgpubsub tail blog.PostReads --limit 1
      manage.py pgpubsub tail --json | jq .payload
    """
    known = [channel.postgres_name() for channel in declared_channels()]
    names = resolve_channels(options["channels"], known) or known
    doorbell = Doorbell(names, using=options["database"], purpose=TAIL)
    left = options["limit"]
    with suppress(KeyboardInterrupt):
        try:
            doorbell.open()
            stored = StoredTail(names, options)
            command.stderr.write(
                f"Watching {pluralize(len(names), 'channel')}. Ctrl-C ends it.", style_func=str
            )
            for message in _messages(doorbell, stored, options):
                _write(command, options, message)
                left = left and left - 1
                if left == 0:
                    return
        except doorbell.errors as error:
            raise CommandError(f"The connection is lost: {first_line(error)}.") from error
        finally:
            doorbell.close()


class SentMessage(NamedTuple):
    """A message that was sent."""

    time: datetime.datetime
    channel: str
    sender: str
    """The ``application_name`` of its session; empty if nobody knows."""
    payload: str


class StoredTail:
    """Looks for stored messages of channels, and takes none."""

    def __init__(self, names: list[str], options: Options) -> None:
        self._names, self._options = names, options
        ((self._since,),) = self._fetch("newest_id")
        self._since -= OUT_OF_ORDER
        self._seen: set[int] = set()
        self._took = 0.0
        self._quick_until = 0.0
        list(self.look())

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        is_quick = time.monotonic() < self._quick_until
        return max(LOOK_SECONDS if is_quick else REST_SECONDS, LOOK_SHARE * self._took)

    def hurry(self) -> None:
        """Look more often for a while."""
        self._quick_until = time.monotonic() + LINGER_SECONDS

    def look(self) -> Iterator[SentMessage]:
        """Yield the messages that are new, in order of their ids."""
        started = time.monotonic()
        values = {"since": self._since, "seen": list(self._seen), "channels": self._names}
        found = self._fetch("sent_since", **values)
        self._took = time.monotonic() - started
        self._remember([row[0] for row in found])
        if found:
            self.hurry()
        yield from (SentMessage(at, name, "", payload) for _, name, at, payload in found)

    def _remember(self, ids: Iterable[int]) -> None:
        self._seen |= {*ids}
        self._since = max(self._since, max(self._seen, default=0) - OUT_OF_ORDER)
        self._seen = {one for one in self._seen if one > self._since}

    def _fetch(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in fetch(self._options, query(name), values)]


def _messages(doorbell: Doorbell, stored: StoredTail, options: Options) -> Iterator[SentMessage]:
    while True:
        yield from stored.look()
        select.select([doorbell], [], [], stored.pause)
        notifies = doorbell.notifies()
        if notifies:
            stored.hurry()
        for notify in notifies:
            if notify.payload:
                yield _heard(notify, options)


def _heard(notify: Notify, options: Options) -> SentMessage:
    senders = fetch(options, query("application_of"), {"pid": notify.pid})
    sender = senders[0]["application_name"] if senders else ""
    payload = _whole(notify.payload, options)
    return SentMessage(timezone.now(), notify.channel, sender, payload)


def _whole(payload: str, options: Options) -> str:
    """Return a payload as it was sent: the long one that it refers to, without envelope."""
    try:
        reference = decode_headers(payload).ref
    except PayloadError:
        return payload
    if isinstance(reference, int):
        rows = fetch(options, query("long_payloads"), {"ids": [reference]})
        payload = rows[0]["payload"] if rows else payload
    return without_envelope(payload)


def _write(command: BaseCommand, options: Options, message: SentMessage) -> None:
    payload = _readable(message.payload)
    if options["json"]:
        line = json.dumps(
            message._asdict() | {"payload": payload}, cls=DjangoJSONEncoder, ensure_ascii=False
        )
    else:
        at = timezone.localtime(message.time) if timezone.is_aware(message.time) else message.time
        text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        words = (f"{at:%H:%M:%S.%f}"[:-3], message.channel, message.sender or "-", text)
        line = truncate("  ".join(map(one_line, words)), output_width(command))
    command.stdout.write(line)
    command.stdout.flush()


def _readable(payload: str) -> Any:
    """Return a payload as JSON without secrets; as text if it is not JSON."""
    try:
        return _without_secrets(json.loads(payload))
    except (ValueError, RecursionError):
        return payload


def _without_secrets(tree: Any) -> Any:
    match tree:
        case dict():
            return {
                name: HIDDEN if _SECRET.search(name) else _without_secrets(value)
                for name, value in tree.items()
            }
        case list():
            return [_without_secrets(item) for item in tree]
    return tree


def _add_options(parser: ArgumentParser) -> None:
    add_channels(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="End after N messages.")


SUBCOMMANDS = (Subcommand(tail, _add_options, Role.WATCHER),)
