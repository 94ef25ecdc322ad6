"""Typed encoding and decoding of a channel's fields.

The fields are declared once, as a dataclass, and checked at both ends. What a listener receives
equals what was sent; otherwise the sender gets a :class:`PayloadError`. Incoming data is untrusted:
it becomes typed values or a :class:`PayloadError`, and never another error.
"""

from pgpubsub_sql.payloads.codec import Codec
from pgpubsub_sql.payloads.definitions import FieldInfo, definition_problems
from pgpubsub_sql.payloads.encoding import ordering_key
from pgpubsub_sql.payloads.json_schema import schema_of_channels
from pgpubsub_sql.payloads.typescript import typescript

__all__ = [
    "Codec",
    "FieldInfo",
    "definition_problems",
    "ordering_key",
    "schema_of_channels",
    "typescript",
]
