"""Whether a NOTIFY that carries data is handled, by who sent it.

Any role that may connect may NOTIFY: PostgreSQL has no privilege for it. Therefore
``helpers/send_v1.sql`` signs each message with a secret that only our functions and the workers can
read. Channels with ``accept_raw_notify = False`` handle signed messages only.
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
from pgpubsub_sql.worker.messages import Envelope, decode_envelope
from pgpubsub_sql.worker.session import Session

logger = logging.getLogger("pgpubsub_sql.worker")

_HEAD = '{"$sig": "'
_SIGNATURE = slice(len(_HEAD), len(_HEAD) + 64)
_NEXT = '", '
_BODY = slice(_SIGNATURE.stop + len(_NEXT), None)
"""Where ``helpers/send_v1.sql`` puts the signature, and what it signs."""

REMEMBERED = 10_000
"""At least this many of the last signatures are remembered, to detect a repeated message."""
ASK_SECONDS = 1.0
"""A wrong signature makes the worker read the secret again, but no more often than this."""
REPORT_SECONDS = 10.0
"""Refusals on one channel are logged once in this time."""
NAMED = 5
"""How many server processes a log line names."""

_UNSIGNED = "they have no valid signature, so any role that may connect may have sent them"
_REPEATED = "they are copies of messages that were received before"

_PRIVILEGE_OR_TABLE_IS_MISSING = ("42501", "42P01")


class Admission:
    """Decides which NOTIFYs that carry data are handled, and logs which are not."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._secrets: list[bytes] = []
        self._ask_at = 0.0
        self._recent: set[str] = set()
        self._older: set[str] = set()
        self._refused: dict[tuple[str, str], Counter[int]] = {}
        """By channel and reason: how many messages of each server process."""
        self._report_at: dict[tuple[str, str], float] = {}

    def learn(self) -> None:
        """Read the secret.

        Raises :class:`NotReady` if this role may not.
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

    def admits(self, channel: type[BaseChannel], payload: str, pid: int, schema: str) -> bool:
        """Whether to handle a message that the server process *pid* has sent.

        A message from another schema than *schema* is for other workers; its signature was made
        with their secret.

        A message that refers to a long payload must always be signed: otherwise anybody could have
        listeners called with a payload that was meant for another channel.
        """
        if channel.accept_raw_notify and not _may_refer(payload):
            return True
        name = channel.postgres_name()
        if self._is_signed(name, payload, pid):
            return self._is_new(payload[_SIGNATURE]) or self._refuse(name, _REPEATED, pid)
        ours = _envelope(payload)
        if ours.schema not in (None, schema):
            return False
        if channel.accept_raw_notify and ours.ref is None:
            return True
        if self._has_asked() and self._is_signed(name, payload, pid):
            return self._is_new(payload[_SIGNATURE])
        return self._refuse(name, _UNSIGNED, pid)

    def report(self) -> None:
        """Log what was refused, for each channel no more often than once in a while."""
        now = time.monotonic()
        for about in [one for one in self._refused if self._report_at.get(one, 0.0) <= now]:
            self._report_at[about] = now + REPORT_SECONDS
            (name, reason), pids = about, self._refused.pop(about)
            count, named = pids.total(), ", ".join(str(pid) for pid, _ in pids.most_common(NAMED))
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

    def _has_asked(self) -> bool:
        """Read the secret again, unless that was just done: somebody may have replaced it."""
        now = time.monotonic()
        if now < self._ask_at:
            return False
        self._ask_at = now + ASK_SECONDS
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
    """Whether a message may hold ``$ref``, however its characters are escaped."""
    return "$ref" in payload or "\\u" in payload


def _envelope(payload: str) -> Envelope:
    try:
        return decode_envelope(payload)
    except PayloadError:
        return Envelope()
