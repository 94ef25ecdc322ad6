"""A row's JSON becomes a model instance.

A row travels as PostgreSQL's ``to_jsonb(row)``. A listener must see what ``Model.objects.get()``
would give it, the same values of the same types, so every column goes the same way, planned once
per model:

1. **typed**: msgspec reads all columns in one pass, each into the type its database type calls for;
2. **read**: what JSON spells differently (``bytea``, ``interval``, a moment in the writer's time
   zone) becomes the value the database driver would have given;
3. **asked**: a type without a faithful JSON form, or a value Python cannot read, is left to
   PostgreSQL and the driver: one query for the row, and only then;
4. **converted**: Django's own converters run, ``from_db_value`` among them, as in a queryset.

The model's declaration decides a column's type, not the table of today: a row may have waited
while its table changed. Columns that did not travel, or whose JSON has lost something, are
deferred, so that nobody takes them for empty or saves them as such.

The instance is made by the model's own code, which may refuse.
"""

from pgpubsub_sql.rows.building import Unbuildable
from pgpubsub_sql.rows.changes import Change, decode_change

__all__ = ["Change", "Unbuildable", "decode_change"]
