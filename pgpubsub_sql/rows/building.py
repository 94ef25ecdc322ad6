"""The model's own code makes an instance of what travelled."""

from __future__ import annotations

import traceback
from typing import Any

from django import db
from django.db.models import Field, Model
from django.db.models.query_utils import DeferredAttribute

from pgpubsub_sql.errors import PayloadError, brief

_NOT_ITS_FAULT = (
    db.OperationalError,
    db.InterfaceError,
    db.InternalError,
    db.ProgrammingError,
)
"""Of the connection, the server, the transaction, or the tables as they are now: another time it
may well succeed."""


class Unbuildable(PayloadError):
    """A row that its model's code makes no instance of, now or later."""


def build(model: type[Model], using: str, names: list[str], values: list[Any]) -> Model:
    """Return the instance of *model* that ``from_db()`` makes of these values.

    Raises :class:`Unbuildable` for whatever ``from_db()``, ``__init__()`` and receivers of
    ``post_init`` raise, but for errors of the database.
    """
    try:
        return model.from_db(using, names, values)
    except _NOT_ITS_FAULT:
        raise
    except Exception as error:
        raise Unbuildable(_reason(model, error)) from error


def _reason(model: type[Model], error: Exception) -> str:
    label = model._meta.label
    said = f"{type(error).__name__}: {brief(error)}"
    field = _field_that_was_read(error)
    if field is None:
        return f"No instance of {label} can be made of the row ({said})"
    return (
        f"No instance of {label} can be made of the row: the model's code reads the field "
        f"{field.name!r} then, which did not travel, and it cannot be read from the database "
        f"({said}). {_remedy(model, field)}"
    )


def _remedy(model: type[Model], field: Field[Any, Any]) -> str:
    leave = "do not read it in __init__(), in from_db() or in a receiver of post_init"
    own = (model._meta.concrete_model or model)._meta.local_concrete_fields
    if field in own and getattr(field, "db_persist", None) is not False:
        return f"Add it to columns, or take it out of exclude; or {leave}"
    return f"It never travels, as no trigger of the table sees it: {leave}"


def _field_that_was_read(error: Exception) -> Field[Any, Any] | None:
    """Return the deferred field that was read when *error* was raised, if one was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is DeferredAttribute.__get__.__code__:
            field: Field[Any, Any] = frame.f_locals["self"].field
            return field
    return None
