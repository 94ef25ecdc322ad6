"""Typed encoding and decoding of a channel's fields.

Declared once, as a dataclass; checked at both ends. What a listener receives equals what was
sent, or the sender gets a :class:`PayloadError`. What arrives is untrusted: it becomes typed
values or a :class:`PayloadError`, never another error.
"""

from pgpubsub_sql.payloads.codec import Codec
from pgpubsub_sql.payloads.definitions import FieldInfo, problems
from pgpubsub_sql.payloads.keys import key_of

__all__ = ["Codec", "FieldInfo", "key_of", "problems"]
