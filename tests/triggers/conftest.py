from __future__ import annotations

import pytest

from tests.triggers.tables import sql, watch


@pytest.fixture
def table(db: None) -> str:
    """A watched table with the rows 1a, 2b and 3c."""
    sql("CREATE TABLE watched (id integer PRIMARY KEY, name text)")
    sql("INSERT INTO watched VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    watch("watched")
    return "watched"
