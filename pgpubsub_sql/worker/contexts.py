"""The context in which a message runs: a new one, like that of a request in a thread of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import Context
from functools import cache

from django.core.cache import caches


def new_context() -> Context:
    """Return a context in which nothing is set: no language, no time zone, no ContextVar."""
    return _pristine(threading.get_ident()).copy()


@cache
def _pristine(thread: int) -> Context:
    context = Context()
    context.run(_open_caches)
    return context


def _open_caches() -> None:
    """Make the project's caches, which Django keeps per context and thread.

    Each message would have to make its own otherwise, and connect them.
    """
    for alias in caches:
        with suppress(Exception):  # whoever uses it is told
            caches[alias]
