"""Rewriting of one module, which keeps its layout and its comments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import NamedTuple

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, PositionProvider

from pgpubsub_sql.moving.fields import Fields, refused_literals
from pgpubsub_sql.moving.names import (
    APPS,
    ATTRIBUTES,
    COUNTERPARTS,
    LOGGERS,
    METHODS,
    NEW,
    OLD,
    remedy,
)

NO_FIELDS: Fields = MappingProxyType({})


class Left(NamedTuple):
    """What somebody has to change by hand."""

    line: int
    text: str


def rewrite(
    source: bytes, *, fields: Fields = NO_FIELDS, is_migration: bool = False
) -> tuple[bytes, list[Left]]:
    """Return *source* with the names of pgpubsub_sql, and what is left to do in it.

    *fields* are those of the project's channels. A migration is history: it is never changed.
    Raises :class:`libcst.ParserSyntaxError`.
    """
    if OLD.encode() not in source:
        return source, []
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    rewriter = _Rewriter(fields, is_migration=is_migration)
    changed = wrapper.visit(rewriter)
    return (source if is_migration else changed.bytes), sorted(set(rewriter.left))


class _Rewriter(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, fields: Fields, *, is_migration: bool) -> None:
        super().__init__()
        self._fields = fields
        self.left: list[Left] = []
        self._is_migration = is_migration
        self._is_user = False
        """Whether the module has imported from django-pgpubsub so far."""
        self._bound: set[str] = set()
        """Dotted names that ``import pgpubsub…`` has bound without another name."""
        self._apps_depth = 0
        self._logging_depth = 0

    # --- Imports

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: N802
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802
        return False

    def leave_SimpleStatementLine(  # noqa: N802
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        match updated_node.body:
            case [cst.ImportFrom() as statement] if _is_old(statement.module):
                lines = self._moved(original_node, statement)
                return cst.FlattenSentinel(_spread(updated_node, lines))
        return updated_node

    def leave_Import(  # noqa: N802
        self, original_node: cst.Import, updated_node: cst.Import
    ) -> cst.Import:
        names = []
        for alias in updated_node.names:
            name = _name(alias.name)
            if _is_old(alias.name):
                self._is_user = True
                if alias.asname is None:
                    self._bound.add(name)
                elif name.count(".") and not _has_counterparts(name):
                    self._leave(original_node, f"{name} has no counterpart. {remedy(name)}")
                    names.append(alias)
                    continue
                alias = alias.with_changes(name=cst.Name(NEW))
            names.append(alias)
        return updated_node.with_changes(names=_without_repetition(names))

    def _moved(
        self, original: cst.SimpleStatementLine, statement: cst.ImportFrom
    ) -> list[cst.ImportFrom]:
        """Return the statements that import the same; names without a counterpart stay."""
        self._is_user = True
        module = _name(statement.module)
        if isinstance(statement.names, cst.ImportStar):
            if module == OLD:
                return [statement.with_changes(module=cst.Name(NEW))]
            self._leave(original, f"It imports everything from {module}: import by name.")
            return [statement]
        by_module: dict[str, list[cst.ImportAlias]] = {}
        for alias in statement.names:
            name = f"{module}.{_name(alias.name)}"
            target, new = COUNTERPARTS.get(name, (module, ""))
            if not new:
                self._leave(original, f"{name} has no counterpart. {remedy(name)}")
            by_module.setdefault(target, []).append(alias)
        if len(by_module) == 1:
            (target,) = by_module
            return [statement.with_changes(module=_dotted(target))]
        return [
            statement.with_changes(
                module=_dotted(target), names=_separated(aliases), lpar=None, rpar=None
            )
            for target, aliases in by_module.items()
        ]

    # --- Uses of imported modules

    def visit_Attribute(self, node: cst.Attribute) -> bool:  # noqa: N802
        name = _name(node)
        if name not in self._bound and self._is_bound(name) and not self._known(name):
            self._leave(node, f"{name} has no counterpart. {remedy(name)}")
            return False
        if self._is_user and (text := ATTRIBUTES.get(node.attr.value)):
            self._leave(node, f"{node.attr.value} has no counterpart. {text}")
        return True

    def leave_Attribute(  # noqa: N802
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        name = _name(original_node)
        if self._is_bound(name) and name in COUNTERPARTS:
            return _dotted(".".join(COUNTERPARTS[name]))
        return updated_node

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:  # noqa: N802
        """Rename the module where it is passed, as to ``mock.patch.object()``."""
        is_module = isinstance(updated_node.value, cst.Name) and updated_node.value.value == OLD
        return (
            updated_node.with_changes(value=cst.Name(NEW))
            if self._bound and is_module
            else (updated_node)
        )

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        if _name(node.func).rpartition(".")[2] == "notify":
            for text in refused_literals(node, self._fields):
                self._leave(node, text)
        keywords = {argument.keyword.value for argument in node.args if argument.keyword}
        if _name(node.func).endswith("trigger_listener") and "trigger" in keywords:
            self._leave(node, f"trigger= has no counterpart. {remedy('pgpubsub.triggers')}")

    def _is_bound(self, name: str) -> bool:
        return bool(self._bound) and (name == OLD or name.startswith(f"{OLD}."))

    def _known(self, name: str) -> bool:
        """Whether *name* has a counterpart, or is on the way to one."""
        parts = name.split(".")
        heads = {".".join(parts[:length]) for length in range(2, len(parts) + 1)}
        return bool(heads & COUNTERPARTS.keys()) or _has_counterparts(name)

    # --- Strings in settings

    def on_visit(self, node: cst.CSTNode) -> bool:
        self._enter(node, +1)
        return super().on_visit(node)

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> object:
        self._enter(original_node, -1)
        return super().on_leave(original_node, updated_node)

    def _enter(self, node: cst.CSTNode, step: int) -> None:
        """Enter or leave what gives strings a meaning."""
        for name in _targets(node):
            self._apps_depth += step * name.endswith("APPS")
            self._logging_depth += step * (name.startswith("LOGGING") or name == "getLogger")

    def leave_SimpleString(  # noqa: N802
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        value = original_node.raw_value
        if value != OLD and not value.startswith(f"{OLD}."):
            return updated_node
        known = APPS if self._apps_depth else LOGGERS if self._logging_depth else {}
        if new := known.get(value):
            return updated_node.with_changes(value=original_node.value.replace(value, new, 1))
        if self._is_migration:
            text = 'A migration names it: put "pgpubsub_sql.compat" into INSTALLED_APPS.'
        else:
            text = f"The string {value!r} names it."
        self._leave(original_node, text)
        return updated_node

    # --- Methods

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        bases = [_name(base.value) for base in node.bases]
        if self._is_user and any(base.endswith("Channel") for base in bases):
            for statement in node.body.body:
                if isinstance(statement, cst.FunctionDef) and statement.name.value in METHODS:
                    self._leave(statement, f"Nobody calls the method {statement.name.value}().")

    def _leave(self, node: cst.CSTNode, text: str) -> None:
        position = self.get_metadata(PositionProvider, node)
        self.left.append(Left(position.start.line, text))


def _targets(node: cst.CSTNode) -> list[str]:
    """Return the names that an assignment is to, or that of the function that is called."""
    match node:
        case cst.Assign():
            return [_name(target.target) for target in node.targets]
        case cst.AnnAssign() | cst.AugAssign():
            return [_name(node.target)]
        case cst.Call():
            return [_name(node.func).rpartition(".")[2]]
    return []


def _name(node: cst.CSTNode | None) -> str:
    """Return the dotted name that *node* is; empty if it is none."""
    return (get_full_name_for_node(node) or "") if node else ""


def _is_old(module: cst.BaseExpression | None) -> bool:
    name = _name(module)
    return name == OLD or name.startswith(f"{OLD}.")


def _has_counterparts(module: str) -> bool:
    return any(name.startswith(f"{module}.") for name in COUNTERPARTS)


def _dotted(name: str) -> cst.Name | cst.Attribute:
    found: cst.Name | cst.Attribute
    first, *others = name.split(".")
    found = cst.Name(first)
    for part in others:
        found = cst.Attribute(found, cst.Name(part))
    return found


def _separated(aliases: Sequence[cst.ImportAlias]) -> list[cst.ImportAlias]:
    """Return *aliases* with a comma after each but the last."""
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    last = aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return [*(alias.with_changes(comma=comma) for alias in aliases[:-1]), last]


def _without_repetition(aliases: Iterable[cst.ImportAlias]) -> list[cst.ImportAlias]:
    """Return *aliases* without those that bind the same name again."""
    found: dict[str, cst.ImportAlias] = {}
    for alias in aliases:
        bound = alias.evaluated_alias or alias.evaluated_name
        found.setdefault(bound, alias)
    return _separated([*found.values()])


def _spread(
    line: cst.SimpleStatementLine, statements: Sequence[cst.ImportFrom]
) -> list[cst.BaseStatement]:
    """Return a line for each of *statements*; comments stay above the first and beside the last."""
    first, *others = statements
    if not others:
        return [line.with_changes(body=[first])]
    alone = cst.TrailingWhitespace(newline=cst.Newline())
    return [
        line.with_changes(body=[first], trailing_whitespace=alone),
        *(cst.SimpleStatementLine([one]) for one in others[:-1]),
        line.with_changes(body=[others[-1]], leading_lines=[]),
    ]
