"""Conditions on the types of extensions, whose operators live where the extension does."""

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
    """A table with such columns, and the extensions in a schema that no writer looks into."""
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
def test_an_operator_is_that_of_the_type(
    words: str, level: str, condition: str, column: str, yes: str, no: str
) -> None:
    """P14, T7: whatever the writer's search_path, and although text has an equality of its own."""
    watch(words, level=level, condition=condition)
    for path in ("public", "''", '"odd schema", public'):
        sql(f"SET LOCAL search_path = {path}")
        sql(f"INSERT INTO public.words (id, {column}) VALUES (1, {yes}), (2, {no})")
        told = taken()
        assert [payload["new"]["id"] for payload in told] == [1]
        assert "$stale" not in told[0]


@LEVELS
def test_a_change_that_equality_does_not_see(words: str, level: str) -> None:
    """P26: to citext, A and a are the same; to whoever watches, they are not."""
    watch(words, level=level, watch=("folded",))
    sql("INSERT INTO words (id, folded) VALUES (1, 'A')")
    taken()
    sql("UPDATE words SET folded = 'A'")
    assert taken() == []
    sql("UPDATE words SET folded = 'a'")
    assert len(taken()) == 1


def schemas(condition: str) -> tuple[str, ...]:
    """Return where the function of such a channel would look, beside PostgreSQL's own."""
    trigger = Trigger(channel="watched", model="app.any", condition=condition)
    names = {"schema": "public", "helpers": "public", "app": "tests"}
    return find_target(connection, trigger, "words", **names).type_schemas


def test_only_the_schemas_that_are_needed(words: str) -> None:
    """P14: who may create in a schema that is looked through has the rights of the owner."""
    assert schemas('("new"."plain" = \'x\')') == ()
    assert schemas(FOLDED) == ("odd schema",)
    assert schemas('("new"."mail" = \'x\')') == ("odd schema", "public")


def test_a_column_that_is_yet_to_come_back(words: str) -> None:
    """P14: on its way back, a migration of ours runs before that which restores the column."""
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
def test_operators_that_are_not_found_any_more(
    words: str, level: str, move: str, column: str
) -> None:
    """F5: all is told, as stale; else the condition would be that of text, and ABC not abc.

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
def test_a_type_that_moves_and_needs_no_operator_of_its_own(words: str, level: str) -> None:
    """F5: the condition on a domain means what it meant; that on an enumeration is not sure to."""
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
