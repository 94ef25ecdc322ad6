"""The context in which a message runs: a new one, like that of a request in a thread of its own."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from contextvars import Context
from functools import cache

from django.core.cache import caches


def new_context() -> Context:
    """Return a context in which nothing is set: no language, no time zone, no ContextVar.

    But for the tenant that the worker is for, which django-pgschemas keeps in one.
    """
    context = _pristine(threading.get_ident()).copy()
    if pgschemas := sys.modules.get("django_pgschemas.schema"):
        context.run(pgschemas.active.set, pgschemas.active.get())
    return context


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
