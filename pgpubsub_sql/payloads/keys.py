"""The ordering key of a message, as it is stored beside it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = b"null"


def key_of(payload: str, fields: Iterable[str]) -> str | None:
    """Return the JSON array of these *fields*; None if there are none."""
    fields = tuple(fields)
    if not fields:
        return None
    travelling = _decoder.decode(payload)
    values = [bytes(travelling.get(field, _NULL)) for field in fields]
    return f"[{b','.join(values).decode()}]"
