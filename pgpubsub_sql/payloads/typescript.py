"""TypeScript types of messages, made of their JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_NAMES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}


def typescript(schema: dict[str, Any]) -> str:
    """Return the types of a schema as ``schema_of_channels()`` makes it."""
    named = [*schema["$defs"].items(), (schema["title"], schema | {"required": "every"})]
    return "\n\n".join(_declaration(name, one) for name, one in named)


def _declaration(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"export type {name} = {_type(schema)};"
    return "\n".join([f"export interface {name} {{", *_members(schema), "}"])


def _members(schema: dict[str, Any]) -> Iterator[str]:
    for name, member in schema["properties"].items():
        if hint := member.get("format") or member.get("contentEncoding"):
            yield f"  /** {hint} */"
        is_required = schema["required"] == "every" or name in schema["required"]
        key = name if _IDENTIFIER.fullmatch(name) else json.dumps(name)
        yield f"  {key}{'' if is_required else '?'}: {_type(member)};"


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": reference}:
            return str(reference).rpartition("/")[2]
        case {"anyOf": choices}:
            return " | ".join(dict.fromkeys(map(_type, choices)))
        case {"enum": values}:
            return " | ".join(map(json.dumps, values))
        case {"const": value}:
            return json.dumps(value)
        case {"prefixItems": items}:
            return _tuple(schema, items)
        case {"type": "array"}:
            return f"Array<{_type(schema.get('items', {}))}>"
        case {"type": "object"}:
            # Not Record<…>: a class of the project may be called so.
            return f"{{ [name: string]: {_type(schema['additionalProperties'])} }}"
    return _NAMES.get(schema.get("type", ""), "unknown")


def _tuple(schema: dict[str, Any], items: list[dict[str, Any]]) -> str:
    required = schema["minItems"]
    elements = [_type(item) for item in items[:required]]
    elements += [f"({_type(item)})?" for item in items[required:]]
    return f"[{', '.join(elements + ([] if 'items' in schema else ['...unknown[]']))}]"
