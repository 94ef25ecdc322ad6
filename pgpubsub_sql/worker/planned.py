"""Statements that PostgreSQL plans once a session: planning takes longer than claiming."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping

from django.db import DatabaseError, connections, transaction

from pgpubsub_sql.django_internals import is_usable
from pgpubsub_sql.sql import SQL, render

logger = logging.getLogger("pgpubsub_sql.worker")

_PARAMETER = re.compile(r"%(?:\((\w+)\)s|%)")


class PlansGone(Exception):
    """The functions of this session are gone: somebody has executed DISCARD."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """A statement, and what a function needs to know that executes it."""

    name: str
    """Of the query; the function's name begins with it."""
    text: str
    """With its parameters as the drivers write them, such as ``%(limit)s``."""
    types: Mapping[str, str] | None = dataclasses.field(compare=False)
    """Of the parameters, by name; None if they are not known, so that there can be no function."""
    columns: str = dataclasses.field(compare=False)
    """What it returns: names and types, as SQL."""

    def definition(self, function: str) -> str:
        """Return the statement that makes the function."""
        types = self.types or {}
        numbers = {name: f"${number}" for number, name in enumerate(types, 1)}
        text = _PARAMETER.sub(lambda found: numbers[found[1]] if found[1] else "%", self.text)
        return render(
            "queries/plan",
            function=function,
            types=SQL(", ".join(types.values())),
            statement=SQL(text),
        )

    def call(self, function: str) -> str:
        """Return the statement that calls it, with the parameters of :attr:`text`."""
        return render(
            "queries/call_plan",
            function=function,
            values=SQL(
                ", ".join(f"%({name})s::{type}" for name, type in (self.types or {}).items())
            ),
            columns=SQL(self.columns),
        )


class Plans:
    """The functions of one session, which end with it.

    They are temporary, so nobody has to install them, and the text of a statement may differ from
    worker to worker. Where none can be made, the statement itself is executed.
    """

    def __init__(self, *, is_possible: bool) -> None:
        self._is_possible = is_possible
        self._calls: dict[Planned, str] = {}
        self._wanted: dict[Planned, None] = {}

    def text(self, planned: Planned) -> str:
        """Return what to execute: a call, as soon as :meth:`make` has made the function."""
        if self._is_possible and planned.types is not None and planned not in self._calls:
            self._wanted[planned] = None
        return self._calls.get(planned, planned.text)

    def make(self, using: str, execute: Callable[..., object]) -> None:
        """Make the functions that have been wanted, in a transaction of their own.

        Raises :class:`~django.db.DatabaseError` if the connection is lost.
        """
        if not self._wanted:
            return
        wanted = {
            planned: f"pgpubsub_{planned.name}_{number}"
            for number, planned in enumerate(self._wanted, len(self._calls) + 1)
        }
        self._wanted.clear()
        raw = connections[using].connection
        try:
            with transaction.atomic(using=using):
                execute("commit_without_waiting")
                for planned, function in wanted.items():
                    execute("plan", text=planned.definition(function))
        except DatabaseError as error:
            # At the end of the block, Django connects again if the connection is lost.
            if connections[using].connection is not raw or not is_usable(connections[using]):
                raise
            self._is_possible = False
            logger.info(
                "Claims are planned each time, which takes longer, as this session cannot make "
                "temporary functions: %s",
                error,
            )
        else:
            self._calls |= {planned: planned.call(name) for planned, name in wanted.items()}

    def forget(self) -> None:
        """Note that the functions are gone."""
        self._calls.clear()
