"""A message to start from, for people who send with SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pgpubsub_sql.channels import Channel, codec
from pgpubsub_sql.sql import quote_literal

_TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T10:00:00Z",
    "time": "10:00:00",
    "duration": "P1DT2H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "decimal": "9.99",
}
"""By JSON Schema's format."""


def sending_sql(channel: type[Channel]) -> str:
    """Return a statement that sends a message of *channel*, with its required fields."""
    schema = codec(channel).schema()
    message = json.dumps(example(schema, schema.get("$defs", {})), ensure_ascii=False)
    function = "pgpubsub_notify" if channel.lock_notifications else "pg_notify"
    name = channel.postgres_name()
    return f"SELECT {function}({quote_literal(name)}, {quote_literal(message)});"


def example(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """Return a value that fits a JSON Schema of msgspec's making, but for patterns."""
    match schema:
        case {"$ref": reference}:
            return example(definitions[reference.rpartition("/")[2]], definitions)
        case {"anyOf": [first, *_]}:
            return example(first, definitions)
        case {"enum": [first, *_]}:
            return first
        case {"type": "object"}:
            return _object(schema, definitions)
        case {"type": "array"}:
            return _array(schema, definitions)
    return _scalar(schema)


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: example(properties[name], definitions) for name in schema.get("required", ())}


def _array(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Any]:
    if "prefixItems" in schema:
        return [example(item, definitions) for item in schema["prefixItems"]]
    return [example(schema.get("items", {}), definitions)] * schema.get("minItems", 0)


def _scalar(schema: Mapping[str, Any]) -> Any:
    match schema:
        case {"contentEncoding": _}:
            return "AP8="
        case {"type": "string"}:
            text = _TEXTS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), "t")[: schema.get("maxLength")]
        case {"type": "integer" | "number"}:
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            return min(least, schema.get("maximum", least))
        case {"type": "boolean"}:
            return True
    return None
