"""Compiles a ``Q`` over ``old__…`` and ``new__…`` to SQL for a trigger.

Django's own ``Query`` does the work, so lookups, transforms, ``F()`` and the treatment of NULL are
those of ``filter()``. Only literals, names and the time zone are ours, because Django's would
differ between processes, drivers and servers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet, ValidationError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import Model, Q
from django.db.utils import ConnectionHandler
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from pgpubsub_sql.errors import ConditionError, TemplateError
from pgpubsub_sql.sql.condition_query import ConditionCompiler, ConditionQuery
from pgpubsub_sql.sql.literals import literal
from pgpubsub_sql.sql.quoting import DOLLAR_TAG

OLDEST_SERVER = 140000
"""SQL for PostgreSQL 14 runs on every later version. Asking a server would make the text depend on
it."""

_POSTGIS = "django.contrib.gis.db.backends.postgis.base.DatabaseWrapper"

_REFUSALS = (
    ArithmeticError,
    AttributeError,
    DatabaseError,
    FieldError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Raised by Django, and by fields and lookups of projects, for what they cannot compile."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition as SQL, and the time zone in which it holds."""

    sql: str
    """One expression over the rows ``old`` and ``new``, in parentheses."""
    timezone: str
    """Time zone that the session must have: that of Django's sessions."""


def compile_condition(model: type[Model], condition: Q) -> Condition:
    """Return *condition* as SQL over the rows ``old`` and ``new`` of the table of *model*.

    >>> compile_condition(Author, Q(new__name__startswith="Z")).sql
    '("new"."name"::text LIKE \\'Z%\\')'

    If a change has no old or no new row, the columns of that row are NULL. Dates and hours are in
    ``settings.TIME_ZONE``, whose name becomes part of the SQL or, without ``USE_TZ``, is the zone
    of the session, as in Django's own queries. No server is queried.

    Raises :class:`ConditionError` for conditions on anything but two rows of one table.
    """
    if not isinstance(condition, Q):
        raise ConditionError(f"{condition!r} is not a Q: wrap it, as Q(…).")
    if not condition:
        raise ConditionError("It is empty. Leave the option out, and every change counts.")
    query, connection = ConditionQuery(model), _connection()
    text = _text(query, condition, connection)
    _check(text)
    if not query.reads:
        raise ConditionError(
            "It reads no field of the old or the new row. Compare one, such as new__name."
        )
    return Condition(sql=f"({text})", timezone=connection.timezone_name)


def _text(query: ConditionQuery, condition: Q, connection: Any) -> str:
    """Return the SQL of *condition*. Turn every error into one that says what to do."""
    try:
        # The caller may be inside a request that has its own zone and language.
        with timezone.override(timezone.get_default_timezone()), translation.override(None):
            return _compile(query, condition, connection)
    except ConditionError:
        raise
    except (FullResultSet, EmptyResultSet) as error:
        raise ConditionError(
            "It is always true or always false, whatever the rows contain."
        ) from error
    except ValidationError as error:
        raise ConditionError(" ".join(error.messages)) from error
    except (FieldError, TemplateError) as error:
        raise ConditionError(str(error)) from error
    except _REFUSALS as error:
        raise ConditionError(f"Django cannot compile it: {error}") from error


def _compile(query: ConditionQuery, condition: Q, connection: Any) -> str:
    query.add_q(condition)
    if query.where.contains_aggregate:
        raise ConditionError(
            "It aggregates, but a trigger sees only the row that changed. Let the listener look."
        )
    if query.where.contains_over_clause:
        raise ConditionError(
            "It has a window function, but a trigger sees only one row. Let the listener look."
        )
    text, parameters = ConditionCompiler(query, connection, None).compile(query.where)
    return str(text % tuple(map(literal, parameters)))


def _check(text: str) -> None:
    """Raise ConditionError for text that a migration or a function's body cannot contain."""
    if DOLLAR_TAG in text:
        raise ConditionError(
            f"A name in it contains {DOLLAR_TAG}, which delimits our functions. Use another."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConditionError(f"It cannot be written as UTF-8: {error}") from error


def _connection() -> Any:
    """Return a connection to compile for; it is never opened.

    It is the same whether DATABASES has a PostgreSQL or not, and whatever its settings are.
    """
    engines, settings = [*connections.all()], {}
    ours = [connection for connection in engines if connection.vendor == "postgresql"]
    if ours:
        engine: Any = type(ours[0])  # a backend of its own may compile in its own way
        settings = ours[0].settings_dict
    elif any(getattr(connection.features, "gis_enabled", False) for connection in engines):
        engine = import_string(_POSTGIS)
    else:
        engine = DatabaseWrapper
    aside = engine({**_defaults(), **settings, "OPTIONS": {}, "TIME_ZONE": None})
    aside.pg_version = OLDEST_SERVER
    return aside


def _defaults() -> dict[str, Any]:
    """Return Django's defaults for the settings of a database."""
    databases: dict[str, Any] = {DEFAULT_DB_ALIAS: {"ENGINE": "django.db.backends.postgresql"}}
    defaults: dict[str, Any] = ConnectionHandler(databases).settings[DEFAULT_DB_ALIAS]
    return defaults
