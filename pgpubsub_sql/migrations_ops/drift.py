"""System checks of code, migrations and databases that differ; ``pgpubsub verify`` says more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core import checks
from django.db import OperationalError, connections

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.audit import audit, unwritten
from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.readiness import check_postgresql, unreachable


def check_written(**kwargs: Any) -> list[checks.CheckMessage]:
    """W201: do the migrations install what the code declares?"""
    try:
        return _warnings([*unwritten()], "The", "W201")
    except NotReady:
        return []  # E010, or Django, says why the migrations cannot be loaded


def check_installed(databases: Iterable[str] | None = None, **kwargs: Any) -> list[Any]:
    """W202, E201: have the databases what their migrations install? Those that are ready for it."""
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        try:
            connection = connections[alias]
            check_postgresql(connection)
            if missing_for(connection, Role.VERIFIER):
                continue  # whoever only listens may not see what has run
            found_here = audit(connection)
            problems = [*found_here.unapplied(), *found_here.astray()]
        except NotReady:
            continue  # other databases need not be, and migrate makes it so
        except OperationalError as error:
            found.append(checks.Error(str(unreachable(alias, error)), id="pgpubsub_sql.E201"))
            continue
        found += _warnings(problems, f"In the database {alias!r} the", "W202")
    return found


def _warnings(problems: Iterable[Problem], where: str, code: str) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"{where} channel {one.sentence}"
            if one.channel
            else f"{where} tables and functions that all channels share differ: {one.sentence}",
            hint=one.remedy,
            id=f"pgpubsub_sql.{code}",
        )
        for one in problems
    ]
