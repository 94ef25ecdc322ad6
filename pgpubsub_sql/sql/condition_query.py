"""Django's ``Query`` over the rows ``old`` and ``new`` of one table.

It treats both as nullable foreign keys to rows of that table, which are joined already.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model
from django.db.models.expressions import RawSQL
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable
from django.db.models.sql.query import Query

from pgpubsub_sql.errors import ConditionError
from pgpubsub_sql.sql.quoting import name_parts, put_in_quotes

ROWS = ("old", "new")

_ONE_ROW = (
    "A trigger sees only the row that changed: compare the column of the foreign key, or let the "
    "listener look."
)


class ConditionQuery(Query):
    """A query in which every name begins with ``old__`` or ``new__``."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(model)
        self.options = model._meta
        self.reads = False
        """Whether any field of either row has been read so far."""
        for row in ROWS:
            self.alias_map[row] = BaseTable(model._meta.db_table, row)
            self.alias_refcount[row] = 1

    def names_to_path(self, names: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        row, *rest = names
        if row not in ROWS:
            name = "__".join(names)
            raise ConditionError(
                f"{name!r} does not say which row it refers to: write 'new__{name}' for the row "
                f"after the change, or 'old__{name}' for the row before it."
            )
        if not rest:
            raise ConditionError(f"{row!r} is a row: name a field of it, such as '{row}__pk'.")
        self._check_field(rest[0])
        return super().names_to_path(rest, *args, **kwargs)

    def setup_joins(self, names: Sequence[str], opts: Any, alias: str, *a: Any, **kw: Any) -> Any:
        return super().setup_joins(names, opts, names[0], *a, **kw)

    def trim_joins(self, targets: Any, joins: Any, path: Any) -> Any:
        """Refuse joins that cannot be trimmed. Every reference to a field passes here."""
        targets, alias, joins = super().trim_joins(targets, joins, path)
        if alias not in ROWS:
            raise ConditionError(_joined(targets[0], path))
        self.reads = True
        return targets, alias, joins

    def split_exclude(self, *args: Any, **kwargs: Any) -> Any:
        raise ConditionError(f"It reads another table. {_ONE_ROW}")

    def is_nullable(self, field: Field[Any, Any]) -> bool:
        # Any column is NULL if there is no such row: old in INSERT, new in DELETE.
        return True

    def resolve_lookup_value(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, Iterator):
            raise ConditionError(f"{value!r} can be read only once: make a list of it.")
        if isinstance(value, (set, frozenset)):
            value = sorted(value, key=repr)  # the order of a set differs from process to process
        return super().resolve_lookup_value(value, *args, **kwargs)

    def _check_field(self, name: str) -> None:
        try:
            field: Any = self.options.get_field(self.options.pk.name if name == "pk" else name)
        except FieldDoesNotExist:
            raise ConditionError(self._unknown(name)) from None
        if getattr(field, "generated", False) and not field.db_persist:
            raise ConditionError(
                f"{self.options.label}.{name} is computed when it is read, and NULL for a trigger: "
                "write its expression instead."
            )

    def _unknown(self, name: str) -> str:
        names = [field.name for field in self.options.concrete_fields]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(names)}."
        return f"{self.options.label} has no field {name!r}. {hint}"


def _joined(target: Field[Any, Any], path: Sequence[Any]) -> str:
    """Return why *target*, at the end of *path*, cannot be read."""
    where = f"It reads {target.model._meta.label}.{target.name}, which is in another table."
    if getattr(path[0].join_field.remote_field, "parent_link", False):
        return f"{where} Watch that model, the parent, to see its columns."
    return f"{where} {_ONE_ROW}"


class ConditionCompiler(SQLCompiler):
    """Quotes every name, and refuses whatever reads more than the two rows."""

    def compile(self, node: Any) -> Any:
        if getattr(node, "subquery", False):
            raise ConditionError(f"It contains a subquery. {_ONE_ROW}")
        if isinstance(node, RawSQL):
            raise ConditionError(
                "It contains RawSQL, which may read more than the row that changed: write a Func "
                "over F('new__…') instead."
            )
        return super().compile(node)

    def quote_name(self, name: str) -> str:
        # Every name, so that columns can be found in the text.
        return ".".join(map(put_in_quotes, name_parts(name))).replace("%", "%%")

    quote_name_unless_alias = quote_name  # its name before Django 6.1
