"""Callbacks of ``transaction.on_commit()``, in a transaction that is never committed."""

from __future__ import annotations

from typing import Any

from pgpubsub_sql.django_internals import count_callbacks, take_callbacks


def run_callbacks(connection: Any, first: int) -> None:
    """Run the callbacks from the *first* on, and those that they give, and take them off the list.

    Like a commit, it logs the errors of robust ones. Any other raises, and ends it.
    """
    while count_callbacks(connection) > first:
        for call in take_callbacks(connection, first):
            call()
