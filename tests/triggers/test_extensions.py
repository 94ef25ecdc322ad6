"""Conditions on types of extensions, whose operators are in the extension's schema."""

from __future__ import annotations

import pytest
from django.db import connection

from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.sql.trigger import Trigger
from tests.triggers.tables import sql, taken, watch

LEVELS = pytest.mark.parametrize("level", ["statement", "row"])
FOLDED = '("new"."folded" = \'abc\')'


@pytest.fixture
def words(db: None) -> str:
    """A table with such columns, and the extensions in a schema on no writer's search_path."""
    available = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('citext', 'hstore')"
    if sql(available) != [(2,)]:
        pytest.skip("this server does not bring the extensions citext and hstore")
    sql('CREATE SCHEMA IF NOT EXISTS "odd schema"')
    for extension in ("citext", "hstore"):
        sql(f"DROP EXTENSION IF EXISTS {extension} CASCADE")
        sql(f'CREATE EXTENSION {extension} SCHEMA "odd schema"')
    sql('CREATE DOMAIN email AS "odd schema".citext')
    sql(
        'CREATE TABLE words (id integer, folded "odd schema".citext, listed "odd schema".citext[], '
        'mail email, store "odd schema".hstore, plain text)'
    )
    return "words"


CONDITIONS = {
    "citext": (FOLDED, "folded", "'ABC'", "'x'"),
    "an array of citext": ('(\'abc\' = ANY("new"."listed"))', "listed", "'{ABC}'", "'{x}'"),
    "a domain over citext": ('("new"."mail" = \'abc\')', "mail", "'ABC'", "'x'"),
    "hstore": ('("new"."store" ? \'a\')', "store", "'a=>1'", "'b=>1'"),
}


@LEVELS
@pytest.mark.parametrize(
    ("condition", "column", "yes", "no"), CONDITIONS.values(), ids=CONDITIONS.keys()
)
def test_a_condition_uses_the_operators_of_the_columns_type(
    words: str, level: str, condition: str, column: str, yes: str, no: str
) -> None:
    """P14, T7: whatever the writer's search_path is, and although text has an equality, too."""
    watch(words, level=level, condition=condition)
    for path in ("public", "''", '"odd schema", public'):
        sql(f"SET LOCAL search_path = {path}")
        sql(f"INSERT INTO public.words (id, {column}) VALUES (1, {yes}), (2, {no})")
        told = taken()
        assert [payload["new"]["id"] for payload in told] == [1]
        assert "$stale" not in told[0]


@LEVELS
def test_watch_sees_a_change_that_equality_does_not(words: str, level: str) -> None:
    """P26: A and a are equal as citext, and yet a change."""
    watch(words, level=level, watch=("folded",))
    sql("INSERT INTO words (id, folded) VALUES (1, 'A')")
    taken()
    sql("UPDATE words SET folded = 'A'")
    assert taken() == []
    sql("UPDATE words SET folded = 'a'")
    assert len(taken()) == 1


def schemas(condition: str) -> tuple[str, ...]:
    """Return the schemas on the search_path of the function, without PostgreSQL's own."""
    trigger = Trigger(channel="watched", model="app.any", condition=condition)
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    return find_target(connection, trigger, "words", **names).type_schemas


def test_the_search_path_has_only_the_needed_schemas(words: str) -> None:
    """P14: whoever can create objects in a schema on the search_path has the owner's rights."""
    assert schemas('("new"."plain" = \'x\')') == ()
    assert schemas(FOLDED) == ("odd schema",)
    assert schemas('("new"."mail" = \'x\')') == ("odd schema", "public")


def test_a_missing_column_may_be_of_any_extensions_type(words: str) -> None:
    """P14: when migrating backwards, our operation runs before the column is restored."""
    sql("ALTER TABLE words DROP COLUMN folded")
    assert "odd schema" in schemas(FOLDED)
    watch(words, condition=FOLDED)
    sql("INSERT INTO words (id) VALUES (1)")
    assert [payload.get("$stale") for payload in taken()] == [True]
    sql('ALTER TABLE words ADD COLUMN folded "odd schema".citext')
    sql("INSERT INTO words (id, folded) VALUES (2, 'ABC'), (3, 'x')")
    assert [payload["new"]["id"] for payload in taken()] == [2]


MOVES = {
    "the extension": ('ALTER EXTENSION citext SET SCHEMA "another schema"', "folded"),
    "the extension beneath a domain": (
        'ALTER EXTENSION citext SET SCHEMA "another schema"',
        "mail",
    ),
    "the extension of an array": ('ALTER EXTENSION citext SET SCHEMA "another schema"', "listed"),
    "the schema": ('ALTER SCHEMA "odd schema" RENAME TO "yet another"', "folded"),
    "the type of the column": (
        'ALTER TABLE words ALTER COLUMN plain TYPE "odd schema".citext',
        "plain",
    ),
}


@LEVELS
@pytest.mark.parametrize(("move", "column"), MOVES.values(), ids=MOVES.keys())
def test_without_its_operators_a_condition_makes_rows_stale(
    words: str, level: str, move: str, column: str
) -> None:
    """F5: all rows are sent, as stale; text's operators, for which ABC is not abc, are not used.

    In a session that has planned the condition before, too.
    """
    value = f'ANY("new"."{column}")' if column == "listed" else f'"new"."{column}"'
    condition = f"('abc' = {value})"
    watch(words, level=level, condition=condition)
    values = ("'{x}'", "'{ABC}'") if column == "listed" else ("'x'", "'ABC'")
    sql(f"INSERT INTO words (id, {column}) VALUES (1, {values[0]})")
    assert taken() == []
    sql('CREATE SCHEMA "another schema"')
    sql(move)
    sql(f"INSERT INTO words (id, {column}) VALUES (2, {values[1]})")
    sql("UPDATE words SET plain = 'other' WHERE id = 2")
    sql("DELETE FROM words WHERE id = 2")
    told = taken()
    assert [payload["op"] for payload in told] == ["INSERT", "UPDATE", "DELETE"]
    assert {payload.get("$stale") for payload in told} == {True}


@LEVELS
def test_moving_the_schema_of_a_domain_or_an_enum(words: str, level: str) -> None:
    """F5: a condition on a domain keeps its meaning; one on an enumeration may not."""
    sql("CREATE DOMAIN title AS text")
    sql("CREATE TYPE mood AS ENUM ('good', 'bad')")
    sql("ALTER TABLE words ADD COLUMN title title, ADD COLUMN mood mood")
    watch(words, level=level, condition='("new"."title" = \'abc\')')
    watch(words, level=level, condition='("new"."mood" = \'good\')', channel="moods")
    sql('ALTER DOMAIN title SET SCHEMA "odd schema"')
    sql('ALTER TYPE mood SET SCHEMA "odd schema"')
    sql("INSERT INTO words (id, title, mood) VALUES (1, 'abc', 'bad'), (2, 'ABC', NULL)")
    told = taken()
    assert [payload["new"]["id"] for payload in told if "$stale" not in payload] == [1]
    assert [payload["new"]["id"] for payload in told if "$stale" in payload] == [1, 2]
