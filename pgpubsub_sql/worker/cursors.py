"""Cursors that say what is executed with them, before it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ClassVar, Protocol

from pgpubsub_sql.django_internals import CURSOR, is_psycopg3
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.statements import is_proven, note_failure, note_success

BEGINNING = f"{query('savepoint')};\n"
"""What rides in front of a statement."""

OTHER_WAYS = ("executemany", "callproc", "copy", "copy_expert", "copy_from", "copy_to", "stream")
"""Other methods with which the drivers' cursors send something to the server."""


class Watcher(Protocol):
    """Who is told what is executed."""

    is_running: bool
    """Whether it wants to be told."""

    def begin(self, text: str | None = None, *, is_able: bool = False) -> bool:
        """Note that *text* is about to be executed; None is something unknown.

        Return whether to execute :data:`BEGINNING` in front of it, for which *is_able* has to be
        true.
        """

    def note_unsent(self) -> None:
        """Note that it was not executed, or only in part."""


@cache
def watched(base: type[Any]) -> type[Any]:
    """Return a subclass of the cursor class *base*, whose cursors have a :class:`Watcher`.

    What wraps cursors or queries sees each statement as it was given. If *base* is Django's own
    class, and not a tool's, :data:`BEGINNING` may ride in front of a statement, in the same round
    trip. The server parses all of it before it executes any, so a statement that cannot be parsed
    keeps the savepoint from being issued. Therefore a statement rides only if its text has
    succeeded before in this process.
    """
    methods = {name: _watching(getattr(base, name)) for name in OTHER_WAYS if hasattr(base, name)}
    may_ride = _may_ride if base is CURSOR else _may_not_ride
    return type(
        base.__name__,
        (_Watched, base),
        methods | {"_may_ride": may_ride, "__module__": base.__module__},
    )


class _Watched:
    """Mixin in front of a driver's class of cursors."""

    watcher: Any = None
    """A :class:`Watcher`, or None."""
    _may_ride: ClassVar[Callable[[Any], bool]]
    _query: Any
    """psycopg 3's: what was executed last."""

    def execute(self, text: Any, *arguments: Any, **options: Any) -> Any:
        """Execute *text*, if need be after what its watcher executes."""
        watcher, execute = self.watcher, super().execute  # type: ignore[misc]
        if watcher is None or not watcher.is_running:
            return execute(text, *arguments, **options)
        if not isinstance(text, str):
            watcher.begin()
            return execute(text, *arguments, **options)
        is_able = not options and is_proven(text) and self._may_ride()
        if watcher.begin(text, is_able=is_able):
            return self._ride(text, *arguments)
        result = execute(text, *arguments, **options)
        note_success(text)
        return result

    def _ride(self, text: str, *arguments: Any) -> Any:
        try:
            result = super().execute(BEGINNING + text, *arguments)  # type: ignore[misc]
        except BaseException:
            note_failure(text)
            self.watcher.note_unsent()
            raise
        finally:
            if is_psycopg3 and self._query:
                self._query.query = _without_beginning(self._query.query)
        if is_psycopg3:
            self.nextset()  # type: ignore[attr-defined]  # each statement has a result
        return result

    @property
    def query(self) -> bytes | None:
        """psycopg2's: what was executed last."""
        return _without_beginning(super().query)  # type: ignore[misc]


def _watching(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(cursor: Any, *arguments: Any, **options: Any) -> Any:
        if cursor.watcher is not None and cursor.watcher.is_running:
            cursor.watcher.begin()
        return method(cursor, *arguments, **options)

    return call


def _may_ride(cursor: Any) -> bool:
    """Return whether *cursor* sends what it is given as it is, and at once."""
    if is_psycopg3:
        return not cursor.format and not cursor.connection.pgconn.pipeline_status
    return cursor.name is None


def _may_not_ride(cursor: Any) -> bool:
    return False


def _without_beginning(text: bytes | None) -> bytes | None:
    return text and text.removeprefix(BEGINNING.encode())
