"""Model instances, made of the values of a row as ``Model.from_db()`` makes them."""

from __future__ import annotations

from functools import cache
from typing import Any

from django import db
from django.db.models import Field, Model

from pgpubsub_sql.django_internals import (
    build_as_usual,
    deferred_field_read,
    has_init_receivers,
    is_built_as_usual,
)
from pgpubsub_sql.errors import PayloadError, brief

_TRANSIENT = (
    db.OperationalError,
    db.InterfaceError,
    db.InternalError,
    db.ProgrammingError,
)
"""Errors of the connection, the server, the transaction or the current tables: a later attempt may
succeed."""


class Unbuildable(PayloadError):
    """A row of which the model's code cannot make an instance, however often it is tried."""


def build(model: type[Model], using: str, names: list[str], values: list[Any]) -> Model:
    """Return the instance that ``model.from_db()`` makes of these values.

    That is called only if it may do more than Django's own does, as it takes most of the time.
    Raises :class:`Unbuildable` for whatever ``from_db()``, ``__init__()`` or a receiver of
    ``post_init`` raises, except transient database errors.
    """
    if _is_built_as_usual(model) and not has_init_receivers(model):
        return build_as_usual(model, using, names, values)
    try:
        return model.from_db(using, names, values)
    except _TRANSIENT:
        raise
    except Exception as error:
        raise Unbuildable(_explain(model, error)) from error


_is_built_as_usual = cache(is_built_as_usual)


def _explain(model: type[Model], error: Exception) -> str:
    label = model._meta.label
    cause = f"{type(error).__name__}: {brief(error)}"
    field = deferred_field_read(error)
    if field is None:
        return f"No instance of {label} can be made of the row ({cause})"
    return (
        f"No instance of {label} can be made of the row: the model's code reads the field "
        f"{field.name!r}, which did not travel, and it cannot be read from the database "
        f"({cause}). {_remedy(model, field)}"
    )


def _remedy(model: type[Model], field: Field[Any, Any]) -> str:
    avoid = "do not read it in __init__(), from_db() or a receiver of post_init"
    own = (model._meta.concrete_model or model)._meta.local_concrete_fields
    if field in own and getattr(field, "db_persist", None) is not False:
        return f"Add it to columns, or remove it from exclude; or {avoid}"
    return f"It never travels, because triggers on the table do not see it: {avoid}"
