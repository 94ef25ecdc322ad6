"""A time limit for statements of those who only look, so that nobody keeps a database busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.utils import OperationalError

from pgpubsub_sql.sql import query, sqlstate

LIMIT_MILLISECONDS = 5000
QUERY_CANCELED = "57014"


class TookTooLong(Exception):
    """A statement was canceled by its time limit."""


@contextmanager
def limited(using: str) -> Iterator[None]:
    """Limit each statement to five seconds.

    Raises :class:`TookTooLong` if one takes longer.
    """
    try:
        with transaction.atomic(using=using):
            with connections[using].cursor() as cursor:
                cursor.execute(query("limit_statements"), {"milliseconds": str(LIMIT_MILLISECONDS)})
            yield
    except OperationalError as error:
        if sqlstate(error) == QUERY_CANCELED:
            raise TookTooLong("A statement took longer than five seconds.") from error
        raise
