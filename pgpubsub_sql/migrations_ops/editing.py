"""Takes this package out of the source of a migration, and leaves the rest as it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from pgpubsub_sql.installed import APP

_BEHIND = re.compile(rb"[ \t]*,?[ \t]*")
_END_OF_LINE = re.compile(rb"(?:#[^\r\n]*)?(?:\r?\n|\r|\Z)")


def mentions(source: bytes) -> list[int]:
    """Return the numbers of the lines that name this package."""
    lines = enumerate(source.splitlines(), start=1)
    return [number for number, line in lines if APP.encode() in line]


def without_us(source: bytes) -> bytes:
    """Return *source* without our operations, the dependencies on our migrations and the imports.

    What it cannot take out it leaves, so that the result may still mention us.
    """
    tree = ast.parse(source)
    names = {name for statement in _imports(tree) for name in _bound(statement)}
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edited = source
    places = {(node.lineno, node.col_offset): node for node in _superfluous(tree, names)}
    for _, node in sorted(places.items(), reverse=True):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        edited = _cut(edited, first, last)
    return edited if _means(edited) == _means(source, names) else source


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the statements that import from this package, and from nowhere else."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        if all(module.partition(".")[0] == APP for module in modules):
            yield node


def _bound(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in statement.names:
        yield alias.asname or alias.name.partition(".")[0]


def _superfluous(tree: ast.AST, names: set[str]) -> Iterator[ast.stmt | ast.expr]:
    yield from _imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple)):
            yield from (element for element in node.elts if _is_ours(element, names))


def _is_ours(element: ast.expr, names: set[str]) -> bool:
    """Whether it is a dependency on a migration of ours, or an operation."""
    match element:
        case ast.Tuple(elts=[ast.Constant(value=label), ast.Constant()]):
            return bool(label == APP)
        case ast.Call(func=function):
            while isinstance(function, ast.Attribute):
                function = function.value
            return isinstance(function, ast.Name) and function.id in names
    return False


def _cut(source: bytes, first: int, last: int) -> bytes:
    """Return *source* without what is between, with its comma; without its line if that is all."""
    behind = _BEHIND.match(source, last)
    last = behind.end() if behind else last
    line = source[:first].rstrip(b" \t")
    newline = _END_OF_LINE.match(source, last)
    if newline and (not line or line.endswith((b"\n", b"\r"))):
        return line + source[newline.end() :]
    return source[:first] + source[last:]


def _means(source: bytes, left_out: set[str] | None = None) -> str:
    """Return what *source* means, for comparison, without what is superfluous in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    if left_out is not None:
        superfluous = {id(node) for node in _superfluous(tree, left_out)}
        for node in ast.walk(tree):
            for name, value in ast.iter_fields(node):
                if isinstance(value, list):
                    setattr(node, name, [one for one in value if id(one) not in superfluous])
    return ast.dump(tree)
