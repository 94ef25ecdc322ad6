"""Signatures: whether a NOTIFY with a payload comes from one of our functions.

Any role that may connect may NOTIFY: PostgreSQL has no privilege for it. Therefore
``helpers/send_v1.sql`` signs each message with a secret that only our functions and the workers can
read. Channels with ``accept_raw_notify = False`` accept signed messages only.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter

from django.db import DatabaseError
from django.db.utils import InterfaceError

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import NotReady, PayloadError
from pgpubsub_sql.sql import sqlstate
from pgpubsub_sql.worker.decoding import Headers, decode_headers
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

_HEAD = '{"$sig": "'
_SIGNATURE = slice(len(_HEAD), len(_HEAD) + 64)
_NEXT = '", '
_BODY = slice(_SIGNATURE.stop + len(_NEXT), None)
"""Positions of the signature, and of the text it signs, as ``helpers/send_v1.sql`` puts them."""

REMEMBERED = 10_000
"""At least so many recent signatures are remembered, to detect repeated messages."""
RELEARN_SECONDS = 1.0
"""Shortest time between two reads of the secret that wrong signatures cause."""
REPORT_SECONDS = 10.0
"""Shortest time between two log records about refusals on one channel."""
MOST_NAMED = 5
"""Most server processes that a log record names."""

_UNSIGNED = "they have no valid signature, so any role that may connect may have sent them"
_REPEATED = "they are copies of messages that were received before"

_PRIVILEGE_OR_TABLE_IS_MISSING = ("42501", "42P01")


class SignatureCheck:
    """Decides which NOTIFYs with a payload are accepted, and logs refusals."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._secrets: list[bytes] = []
        self._relearn_at = 0.0
        self._recent: set[str] = set()
        self._older: set[str] = set()
        self._refused: dict[tuple[str, str], Counter[int]] = {}
        """By channel and reason: number of messages by server process."""
        self._report_at: dict[tuple[str, str], float] = {}

    def learn(self) -> None:
        """Read the secret.

        Raises :class:`NotReady` if this role may not read it.
        """
        try:
            self._secrets = [bytes(secret) for (secret,) in self._session.execute("secrets")]
        except DatabaseError as error:
            if sqlstate(error) not in _PRIVILEGE_OR_TABLE_IS_MISSING:
                raise
            raise NotReady(
                "The secret that messages are signed with cannot be read: "
                f"{str(error).strip()}. Run migrate, and GRANT SELECT ON pgpubsub_sql_secret "
                "to the role of the workers."
            ) from error

    def accepts(self, channel: type[BaseChannel], payload: str, pid: int, schema: str) -> bool:
        """Return whether to accept a message from the server process *pid*.

        A message from another schema than *schema* is for other workers, and signed with their
        secret.

        A message that refers to a long payload must be signed on any channel: otherwise anybody
        could have listeners called with a payload that was meant for another channel.
        """
        if channel.accept_raw_notify and not _may_refer(payload):
            return True
        name = channel.postgres_name()
        if self._is_signed(name, payload, pid):
            return self._is_new(payload[_SIGNATURE]) or self._refuse(name, _REPEATED, pid)
        headers = _headers(payload)
        if headers.schema not in (None, schema):
            return False
        if channel.accept_raw_notify and headers.ref is None:
            return True
        if self._has_relearned() and self._is_signed(name, payload, pid):
            return self._is_new(payload[_SIGNATURE])
        return self._refuse(name, _UNSIGNED, pid)

    def report(self) -> None:
        """Log refusals, for each channel once in :data:`REPORT_SECONDS`."""
        now = time.monotonic()
        for about in [one for one in self._refused if self._report_at.get(one, 0.0) <= now]:
            self._report_at[about] = now + REPORT_SECONDS
            (name, reason), pids = about, self._refused.pop(about)
            count, named = (
                pids.total(),
                ", ".join(str(pid) for pid, _ in pids.most_common(MOST_NAMED)),
            )
            message = (
                "Refused messages that came by NOTIFY on channel %s (messages: %s, server "
                "processes that sent them: %s): %s. Look up the processes in pg_stat_activity. "
                "If they are yours, call pgpubsub_notify(channel, payload) instead of pg_notify(), "
                "or set accept_raw_notify = True on the channel to handle what anybody sends."
            )
            extra = {"channel": name, "count": count}
            logger.warning(message, name, count, named, reason, extra=extra)

    def _is_signed(self, name: str, payload: str, pid: int) -> bool:
        if not payload.startswith(_HEAD):
            return False
        signed = f"{pid}{{{payload[_BODY]}{name}".encode(errors="surrogatepass")
        return any(
            hashlib.sha256(secret + hashlib.sha256(secret + signed).digest()).hexdigest()
            == payload[_SIGNATURE]
            for secret in self._secrets
        )

    def _has_relearned(self) -> bool:
        """Read the secret again, which may have been replaced; return False if that was just done.

        A failure is logged, and leaves the secret as it was.
        """
        now = time.monotonic()
        if now < self._relearn_at:
            return False
        self._relearn_at = now + RELEARN_SECONDS
        try:
            self.learn()
        except (NotReady, DatabaseError, InterfaceError) as error:
            message = (
                "Signatures cannot be checked: reading the secret again failed. Messages that were "
                "signed with a new one are refused until that succeeds. The error is: %s"
            )
            logger.warning(message, str(error).strip())
            self._session.drop_if_broken()
        return True

    def _is_new(self, signature: str) -> bool:
        if signature in self._recent or signature in self._older:
            return False
        if len(self._recent) >= REMEMBERED:
            self._recent, self._older = set(), self._recent
        self._recent.add(signature)
        return True

    def _refuse(self, name: str, reason: str, pid: int) -> bool:
        self._refused.setdefault((name, reason), Counter())[pid] += 1
        return False


def _may_refer(payload: str) -> bool:
    """Return whether a message may contain ``$ref``, escaped or not."""
    return "$ref" in payload or "\\u" in payload


def _headers(payload: str) -> Headers:
    try:
        return decode_headers(payload)
    except PayloadError:
        return Headers()
