"""Triggers send the changes for which a filter over two foreign keys holds, and no others."""

from __future__ import annotations

import pytest
from django.db.models import Func, Q, TextField
from django.db.models.lookups import Exact

from pgpubsub_sql.sql.conditions import compile_condition
from tests.conditions.corpus import CONDITIONS
from tests.conditions.models import Change, Thing
from tests.conditions.oracle import by_filter
from tests.triggers.tables import sql, taken, watch

pytestmark = pytest.mark.django_db

SOME = [*list(CONDITIONS)[::9], "time_date_or_moment"]
"""A few of each kind; test_truth.py tests all of them without a trigger."""

COLUMNS = ", ".join(f'"{field.column}"' for field in Thing._meta.concrete_fields)


@pytest.fixture
def table(changes: int) -> str:
    """A table of old rows; "becomes" is the id of the new row of each."""
    sql("CREATE TABLE watched (LIKE conditions_thing)")
    sql("ALTER TABLE watched ADD becomes bigint")
    sql("INSERT INTO watched SELECT old.*, new.id FROM conditions_thing old, conditions_thing new")
    return "watched"


def sent() -> set[tuple[int | None, int | None]]:
    """Return the ids of the old and the new row of each change that was sent."""
    told = taken()
    assert not [payload for payload in told if "$stale" in payload]
    return {tuple(row and row["id"] for row in (p["old"], p["new"])) for p in told}


@pytest.mark.parametrize("level", ["statement", "row"])
@pytest.mark.parametrize("name", SOME)
def test_a_trigger_sends_what_a_filter_finds(name: str, level: str, table: str) -> None:
    condition = CONDITIONS[name]
    pairs = Change.objects.filter(pk__in=by_filter(condition)).values_list("old", "new")
    held = set(pairs) - {(None, None)}
    compiled = compile_condition(Thing, condition)
    watch(table, condition=str(compiled.sql), timezone=compiled.timezone, level=level)
    sql("SET LOCAL timezone = 'Asia/Tokyo'")
    sql(
        f"UPDATE watched SET ({COLUMNS}) ="
        f" (SELECT {COLUMNS} FROM conditions_thing WHERE id = becomes)"
    )
    sql("DELETE FROM watched")
    sql("INSERT INTO watched SELECT * FROM conditions_thing")
    assert sent() == held


def test_a_function_of_an_extension_is_found_by_its_qualified_name(table: str) -> None:
    """The search_path of a trigger has no schema in which others may create objects."""
    if not sql("SELECT name FROM pg_available_extensions WHERE name = 'unaccent'"):
        pytest.skip("this server does not bring the extension unaccent")
    sql("CREATE EXTENSION IF NOT EXISTS unaccent SCHEMA public")
    plain = Func("new__name", function="public.unaccent", output_field=TextField())
    watch(table, condition=str(compile_condition(Thing, Q(Exact(plain, "Zoe"))).sql))
    sql("INSERT INTO watched SELECT * FROM conditions_thing")
    assert sent() == {(None, 1)}
