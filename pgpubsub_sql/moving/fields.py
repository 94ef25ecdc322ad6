"""Literals that django-pgpubsub converted to the type of a field, and that are refused now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst
from libcst import matchers as m
from libcst.helpers import get_full_name_for_node

Fields = Mapping[str, Mapping[str, str]]
"""Annotations by the name of the class and of the field."""

_REFUSED = {
    "int": ("str", "bool", "float"),
    "str": ("int", "float", "bool"),
    "bool": ("int", "float", "str"),
    "float": ("str", "bool"),
}
"""By annotation: the types of literals that are refused. ``1`` for a float is accepted."""


def fields_of(source: bytes) -> dict[str, dict[str, str]]:
    """Return the annotated fields of the channels that a module declares.

    Raises :class:`libcst.ParserSyntaxError`.
    """
    found = {}
    for node in m.findall(cst.parse_module(source), m.ClassDef()):
        bases = [get_full_name_for_node(base.value) or "" for base in node.bases]
        if any(base.endswith("Channel") for base in bases):
            found[node.name.value] = dict(_annotations(node))
    return found


def _annotations(node: cst.ClassDef) -> Iterator[tuple[str, str]]:
    for line in node.body.body:
        for statement in getattr(line, "body", ()):
            if isinstance(statement, cst.AnnAssign):
                name = get_full_name_for_node(statement.target) or ""
                yield name, get_full_name_for_node(statement.annotation.annotation) or ""


def refused_literals(call: cst.Call, fields: Fields) -> Iterator[str]:
    """Yield what is wrong with the fields that a call of ``notify()`` gives as literals."""
    if not call.args or call.args[0].keyword:
        return
    channel = _channel(call.args[0].value)
    declared = fields.get(channel, {})
    for argument in call.args[1:]:
        name = argument.keyword.value if argument.keyword else ""
        annotation = declared.get(name, "")
        if _type(argument.value) in _REFUSED.get(annotation, ()):
            yield (
                f"The field {name} of {channel} is {annotation}. A literal of another type was "
                "converted by django-pgpubsub, and is refused now."
            )


def _channel(node: cst.BaseExpression) -> str:
    path = node.raw_value if isinstance(node, cst.SimpleString) else get_full_name_for_node(node)
    return str(path or "").rpartition(".")[2]


def _type(node: cst.BaseExpression) -> str:
    match node:
        case cst.SimpleString():
            return "str"
        case cst.Integer():
            return "int"
        case cst.Float():
            return "float"
        case cst.Name(value="True" | "False"):
            return "bool"
    return ""
