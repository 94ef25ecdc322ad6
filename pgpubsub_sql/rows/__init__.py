"""Decoding of a row's JSON into a model instance.

A row travels as PostgreSQL's ``to_jsonb(row)``. A listener gets what ``Model.objects.get()`` would
return: the same values of the same types. Each column takes the same four steps, planned once per
model:

1. **parse**: msgspec parses all columns in one pass, each as the JSON type of its database type;
2. **read**: what has another form in JSON (``bytea``, ``interval``, timestamps in the writer's
   time zone) becomes the value that the database driver would return;
3. **ask**: a type without a faithful JSON form, or a value that Python cannot read, is left to
   PostgreSQL and the driver, in one query per row that needs it;
4. **convert**: Django's converters run, ``from_db_value()`` included, as in a queryset.

A column's type is the one that the model declares, not the table's current one: the table may have
changed while the message waited. Columns that did not travel, or that JSON does not carry
faithfully, are deferred, so that nobody takes them for empty or saves them as such.

``Model.from_db()`` makes the instance if the model has code of its own for that, which may raise.
Other models get the same instances without that call.
"""

from pgpubsub_sql.rows.instances import Unbuildable
from pgpubsub_sql.rows.row_change import Change, change_decoder, decode_change
from pgpubsub_sql.rows.row_decoder import Operation, Timing

__all__ = ["Change", "Operation", "Timing", "Unbuildable", "change_decoder", "decode_change"]
