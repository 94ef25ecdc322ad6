"""Long payloads: what does not fit into a NOTIFY is stored, and the NOTIFY refers to it by $ref."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from pgpubsub_sql.errors import PayloadError, brief
from pgpubsub_sql.worker.decoding import decode_headers
from pgpubsub_sql.worker.session import Session

READ_TOGETHER = 100
"""Most long payloads that one query reads."""
_LARGEST_ID = 2**63 - 1


class LongPayloads:
    """Reads long payloads, and those of messages to come in the same query."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[int, str] = {}
        """What was read and not asked for yet."""

    def get(self, reference: Any, following: Iterable[str]) -> str:
        """Return the long payload with the id *reference*.

        If that takes a query, it also reads those to which the payloads *following* refer, up to
        about a megabyte.

        Raises :class:`PayloadError` if there is none.
        """
        if not _is_id(reference):
            raise PayloadError(
                f"Its $ref {brief(repr(reference))} is not the id of a long payload."
            )
        if reference not in self._found:
            ids = [reference, *_references(islice(following, READ_TOGETHER))]
            self._found = dict(self._session.execute("long_payloads", {"ids": ids}))
        if reference not in self._found:
            raise PayloadError(f"Its long payload {reference!r} has expired, or never existed.")
        return self._found.pop(reference)


def _is_id(reference: Any) -> bool:
    return type(reference) is int and 0 < reference <= _LARGEST_ID


def _references(payloads: Iterable[str]) -> Iterable[int]:
    for payload in payloads:
        with suppress(PayloadError):
            reference = decode_headers(payload).ref
            if _is_id(reference):
                yield reference
