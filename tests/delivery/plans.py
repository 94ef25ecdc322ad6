"""What the server does for a statement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import connection


def explained(statement: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Execute *statement*; return the nodes of its plan, with what each has read."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        ((plan,),) = cursor.fetchall()
    return list(nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
