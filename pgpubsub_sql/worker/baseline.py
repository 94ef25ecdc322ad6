"""The baseline of a session: what it was like before listeners used it, and how to restore it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from pgpubsub_sql.django_internals import count_blocks, is_in_autocommit
from pgpubsub_sql.sql import SQL, quote_identifier, quote_literal, render, split_identifiers

CONSTRAINTS_SECONDS = 60.0
"""A worker learns of new and dropped constraints within this time."""

Execute = Callable[[str], list[Any]]


class Baseline:
    """The state of Django's *connection* when the driver's connection was opened.

    With *is_local*, settings are restored for the current transaction only: behind a pooler, the
    session may be another client's next.
    """

    def __init__(
        self, connection: Any, execute: Execute, *, recovered_at: str, is_local: bool = False
    ) -> None:
        self.raw = connection.connection
        self.recovered_at = recovered_at
        """When the server last recovered from a crash; see the query ``session_state``."""
        self.shows_cursors = _shows_cursors(self.raw)
        """Whether the driver makes each cursor with ``cursor_factory``."""
        self._connection = connection
        self._driver = self._driver_state()
        self.tenant = getattr(connection, "tenant", None)
        """That of django-tenants; None without it."""
        settings = execute("session_settings")
        self._report = self.raw.info.parameter_status
        self._reported = {} if is_local else self._find_reported(settings)
        """Values of the settings whose changes the server reports by itself."""
        self._is_local = is_local
        self._unreported = [one for one in settings if one[0] not in self._reported]
        self.restore = _restoring(settings, is_local=is_local)
        """SQL that restores all settings of the session."""
        self.check = ""
        """SQL that ends a message that has queried: it checks constraints."""
        self._settle = self._settle_changed = ""
        self.trusts = not is_local
        """Whether to believe that a plain query changes no setting, until one has."""
        self._settle_until = 0.0

    def refresh(self, execute: Execute) -> None:
        """Learn which constraints are immediate by default, unless that was done just now."""
        if self._settle_until <= time.monotonic():
            self._settle_until = time.monotonic() + CONSTRAINTS_SECONDS
            names = [_qualified(*name) for name in execute("immediate_constraints")]
            immediate = f"{_immediate(names)};" if names else ""
            restore = _restoring(self._unreported, is_local=self._is_local)
            self._settle = _settling(immediate, restore)
            self._settle_changed = _settling(immediate, self.restore)
            self.check = _settling(immediate, "")

    @property
    def settle(self) -> str:
        """The same, and restores settings.

        It leaves out those that the server reports as long as none of them has changed, because
        each SET takes as long as three hundredths of an INSERT.
        """
        return self._settle_changed if self.is_reported_changed() else self._settle

    @property
    def unreported(self) -> list[str]:
        """Names of the settings whose changes the server does not report."""
        return [name for name, _ in self._unreported]

    def changed(self, values: Iterable[str]) -> list[str]:
        """Return the names of those that differ, given their *values* now."""
        found = zip(self._unreported, values, strict=True)
        return [name for (name, was), now in found if _meaning(name, was) != _meaning(name, now)]

    def is_reported_changed(self) -> bool:
        """Return whether the server has reported a setting that differs from the baseline."""
        return [self._report(name) for name in self._reported] != list(self._reported.values())

    def restore_tenant(self) -> None:
        """Restore the tenant of django-tenants, which keeps it in Python."""
        if getattr(self._connection, "tenant", None) is not self.tenant:
            self._connection.set_tenant(self.tenant)

    def leftover(self, depth: int) -> str:
        """Return what was left behind besides settings, in words; empty for nothing.

        *depth* is the number of atomic blocks around.
        """
        if count_blocks(self._connection) != depth:
            return "an atomic block that was entered and not left"
        if not depth and not self.is_idle():
            return "autocommit off, or a transaction that was begun and not ended"
        if self._driver_state() != self._driver:
            return "another isolation level or access mode of the driver"
        return ""

    def is_idle(self) -> bool:
        """Return whether the connection is in autocommit mode and in no transaction."""
        is_automatic = is_in_autocommit(self._connection) and getattr(self.raw, "autocommit", True)
        return is_automatic and not self.raw.info.transaction_status

    def _find_reported(self, settings: Iterable[tuple[str, str]]) -> dict[str, str]:
        # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
        found = {name: self._report(name) for name, _ in settings}
        return {name: value for name, value in found.items() if value is not None}

    def _driver_state(self) -> list[Any]:
        """Return what the drivers add to each BEGIN; psycopg2 spells ``readonly``."""
        names = ("isolation_level", "readonly", "read_only", "deferrable")
        return [getattr(self.raw, name, None) for name in names]


def _shows_cursors(raw: Any) -> bool:
    """Return whether each cursor is made with ``cursor_factory``, as both drivers do.

    A pool or a tool that has wrapped the connection may not pass the attribute on.
    """
    factory, made = getattr(raw, "cursor_factory", None), []
    if factory is None:
        return False

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(True)
        return factory(*args, **kwargs)

    try:
        raw.cursor_factory = make
        raw.cursor().close()
        raw.cursor_factory = factory
    except AttributeError:  # it cannot be set
        return False
    return bool(made)


def _restoring(settings: Iterable[tuple[str, str]], *, is_local: bool) -> str:
    scope = SQL("LOCAL" if is_local else "SESSION")
    return _script(
        render("queries/restore_search_path", schemas=_schemas(value), scope=scope)
        if name == "search_path"
        else render("queries/restore_setting", name=name, value=value, scope=scope)
        for name, value in settings
    )


def _meaning(name: str, value: str) -> object:
    """Return what equal values of a setting have in common, however they are spelled."""
    return split_identifiers(value) or [""] if name == "search_path" else value


def _schemas(path: str) -> SQL:
    """Return the schemas of a search_path, which quotes names that are not in lower case."""
    return SQL(", ".join(map(quote_literal, split_identifiers(path) or [""])))


def _settling(immediate: str, restore: str) -> str:
    return render("queries/settle", immediate=SQL(immediate), restore=SQL(restore))


def _immediate(constraints: list[str]) -> str:
    return render("queries/restore_constraints", constraints=SQL(", ".join(constraints)))


def _qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _script(statements: Iterable[str]) -> str:
    return "\n".join(f"{statement};" for statement in statements)
