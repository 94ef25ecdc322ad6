"""Checks of databases, by ``check --database ALIAS``: E201, W202, W204 and
W205.

``pgpubsub verify`` reports the same, and more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core import checks
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers
from pgpubsub_sql.migrations_ops.predecessor_problems import predecessor_problems
from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.migrations_ops.replication import replication_problems
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.readiness import check_postgresql, unreachable


def check_databases(
    databases: Iterable[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """E201 and W202: does each database have what its migrations install?

    Databases that are not PostgreSQL, or not migrated yet, are passed over.
    """
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        try:
            problems = _differences(connections[alias])
        except NotReady:
            continue
        except OperationalError as error:
            found.append(checks.Error(str(unreachable(alias, error)), id="pgpubsub_sql.E201"))
        else:
            found += as_warnings(f"In the database {alias!r}, the", problems, "W202")
    return found


def check_replication(
    databases: Iterable[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """W204: does logical replication fire the triggers of channels?"""
    return [
        problem
        for alias in databases or ()
        for problem in as_warnings(
            f"In the database {alias!r}, the", _unreplicated(connections[alias]), "W204"
        )
    ]


def check_predecessor(
    databases: Iterable[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """W205: has django-pgpubsub left triggers or messages?"""
    return [
        checks.Warning(
            f"In the database {alias!r}: {problem.sentence}",
            hint=problem.remedy,
            id="pgpubsub_sql.W205",
        )
        for alias in databases or ()
        for problem in _left(connections[alias])
    ]


def as_warnings(where: str, problems: Iterable[Problem], code: str) -> list[checks.CheckMessage]:
    """Return a warning for each of *problems*; *where* begins its sentence, and ends in "the"."""
    return [
        checks.Warning(
            f"{where} channel {one.sentence}"
            if one.channel
            else f"{where} tables and functions shared by all channels differ: {one.sentence}",
            hint=one.remedy,
            id=f"pgpubsub_sql.{code}",
        )
        for one in problems
    ]


def _differences(connection: BaseDatabaseWrapper) -> list[Problem]:
    check_postgresql(connection)
    if missing_for(connection, Role.VERIFIER):
        return []  # a role that only listens may not see which migrations have run
    found = audit(connection)
    return [*found.unapplied_problems(), *found.installed_problems()]


def _left(connection: BaseDatabaseWrapper) -> list[Problem]:
    if connection.vendor != "postgresql":
        return []
    try:
        return list(predecessor_problems(connection))
    except OperationalError:
        return []  # E201


def _unreplicated(connection: BaseDatabaseWrapper) -> list[Problem]:
    if connection.vendor != "postgresql":
        return []
    try:
        return list(replication_problems(connection, declared_triggers().values()))
    except (AttributeError, DatabaseError, LookupError, ValueError):
        return []  # other checks report what is wrong with a channel or the database
