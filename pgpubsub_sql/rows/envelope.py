"""The message around the rows of one change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from pgpubsub_sql.rows.columns import Column

Operation: TypeAlias = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Timing: TypeAlias = Literal["AFTER", "BEFORE"]


def envelope_decoder(name: str, columns: Sequence[Column]) -> msgspec.json.Decoder[Any]:
    """One decoder for the whole message, so that its rows are parsed once."""
    travels = [(column.alias, _optional(column.wire.type), UNSET) for column in columns]
    row = msgspec.defstruct(
        f"{name}Row", travels, rename={column.alias: column.key for column in columns}, gc=False
    )
    envelope = msgspec.defstruct(
        f"{name}Change",
        [
            ("op", Operation | None, None),
            ("when", Timing, "AFTER"),
            ("old", row | None, None),
            ("new", row | None, None),
            ("context", dict[str, Any] | None, None),
        ],
    )
    return msgspec.json.Decoder(envelope)


def _optional(type_: Any) -> Any:
    return Raw | UnsetType if type_ is Raw else type_ | UnsetType | None


def respell(text: str, keys: Mapping[str, str]) -> bytes:
    """Rename the columns whose names msgspec does not take."""
    envelope = msgspec.json.decode(text, type=dict[str, Raw])
    for side in ("old", "new"):
        row = msgspec.json.decode(envelope.get(side, Raw(b"null")), type=dict[str, Raw] | None)
        if row is not None:
            renamed = {keys.get(name, name): value for name, value in row.items()}
            envelope[side] = Raw(msgspec.json.encode(renamed))
    return msgspec.json.encode(envelope)
