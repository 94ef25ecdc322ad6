"""What users of our predecessors stumbled over has a number, and every number has a test."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

NUMBERS = [
    *(f"P{n}" for n in range(1, 28)),
    *(f"T{n}" for n in range(1, 15)),
    *(f"M{n}" for n in range(1, 17)),
]


def docstrings_of_tests() -> list[str]:
    """Return what the tests say of themselves, those of this module aside."""
    modules = [path for path in (ROOT / "tests").rglob("test_*.py") if str(path) != __file__]
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_bytes()))]
    tests = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return [ast.get_docstring(test) or "" for test in tests if test.name.startswith("test_")]


@pytest.fixture(scope="module")
def named() -> set[str]:
    return set(re.findall(r"\b[PTM]\d+\b", "\n".join(docstrings_of_tests())))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_named_by_the_test_that_keeps_it_away(number: str, named: set[str]) -> None:
    assert number in named
