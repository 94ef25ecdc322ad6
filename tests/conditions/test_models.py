"""Names of fields become names of columns, for every kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F, Model, Q

from pgpubsub_sql.sql.conditions import Condition, compile_condition
from tests.conditions.models import Unspeakable
from tests.rows.fields import CITextField
from tests.rows.models import Exotic, Pizzeria, PlainProxy, Profile, Square, Visit, Words

CODE = "8f14e45f-ceea-467f-9575-1b2c3d4e5f60"
IS_CODE = f"= '{CODE}'::uuid"


@pytest.mark.parametrize(
    ("model", "condition", "sql"),
    [
        (PlainProxy, Q(new__views=1), '"new"."views" = 1'),
        (Profile, Q(new__pk=CODE), f'"new"."place_id" {IS_CODE}'),
        (Profile, Q(new__place__code=CODE), f'"new"."place_id" {IS_CODE}'),
        (
            Pizzeria,
            Q(new__pk=CODE, old__oven="x", new__code=CODE, old__place_ptr=CODE),
            f'("new"."restaurant_ptr_id" {IS_CODE} AND "new"."restaurant_ptr_id" {IS_CODE}'
            f' AND "old"."oven" = \'x\' AND "old"."restaurant_ptr_id" {IS_CODE})',
        ),
        (
            Visit,
            Q(new__pk=(CODE, "2026-01-31")),
            f'("new"."place_id", "new"."day") = (\'{CODE}\'::uuid, \'2026-01-31\'::date)',
        ),
        (
            Square,
            Q(new__area__gt=F("old__area")),
            '"new"."area" > ("old"."area")',
        ),
        (Exotic, Q(new__doubled=4), '2 * "new"."doubled" = 4'),
        (
            User.groups.through,
            Q(new__user=1, old__group__in=[2]),
            '("new"."user_id" = 1 AND "old"."group_id" IN (2))',
        ),
    ],
)
def test_a_name_leads_to_the_column_of_the_row(model: type[Model], condition: Q, sql: str) -> None:
    assert compile_condition(model, condition) == Condition(sql=f"({sql})", timezone="UTC")


@pytest.mark.django_db
def test_columns_whose_names_django_cannot_query() -> None:
    """T8: quotes and percent signs in names do no harm."""
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE TABLE odd ("$id" int, "100%s" int, "100%%" int, "a""b" int, "In quotes" int)',
            None,
        )
        cursor.execute("INSERT INTO odd VALUES (1, 2, 3, 4, 5), (5, 4, 3, 2, 1)")
        condition = compile_condition(
            Unspeakable,
            Q(new__dollar=1, new__percent=2, new__doubled=3, new__quoted=4, new__in_quotes=5)
            & Q(old__dollar__gt=F("new__percent")),
        )
        cursor.execute(f"SELECT count(*) FROM odd old, odd new WHERE {condition.sql}", None)
        assert cursor.fetchone() == (1,)


@pytest.fixture
def words(db: None) -> Iterator[Any]:
    """A cursor, and a table with columns of extensions' types, which embedded servers lack."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_available_extensions")
        if not {("citext",), ("hstore",)} <= set(cursor.fetchall()):
            pytest.skip("this server does not bring the extensions citext and hstore")
        cursor.execute("CREATE EXTENSION IF NOT EXISTS citext")
        cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
        cursor.execute("CREATE TABLE words (folded citext, store hstore, array_folded citext[])")
        cursor.execute(
            """INSERT INTO words VALUES ('Größe', '"it''s"=>"1", "\\\\"=>NULL', '{A,b}')"""
        )
        yield cursor


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Q(new__folded="gRöße"), True),
        (Q(new__folded__in=["x", "GRößE"]), True),
        (Q(new__folded__gt="x"), False),
        (Q(new__folded=F("old__folded")), True),
        (Q(new__store={"it's": 1, "\\": None}), True),
        (Q(new__store={"it's": 1}), False),
        (Q(new__store__contains={"it's": "1"}), True),
        (Q(new__store__contained_by={"it's": "1", "\\": None, 'q"': "z"}), True),
        (Q(new__store__contained_by={}), False),
        (Q(new__store__has_key="\\"), True),
        (Q(new__store__has_keys=["it's", "z"]), False),
        (Q(new__store__has_any_keys=["it's", "z"]), True),
        (Q(**{"new__store__it's": "1"}), True),
        (Q(**{"new__store__it's__in": ["2"]}), False),
        (Q(**{"new__store__\\__isnull": True}), True),
        (Q(new__store__keys__contains=["it's"]), True),
        (Q(new__store__values__overlap=["1"]), True),
        (Q(new__array_folded=["A", "b"]), True),
        (Q(new__array_folded__contains=["B"]), True),
    ],
)
def test_conditions_on_types_of_extensions(words: Any, condition: Q, holds: bool) -> None:
    sql = compile_condition(Words, condition).sql
    words.execute(f"SELECT {sql} FROM words old, words new", None)
    assert words.fetchone() == (holds,)


def test_an_hstore_is_compared_with_a_literal() -> None:
    assert isinstance(Words._meta.get_field("folded"), CITextField)
    assert compile_condition(Words, Q(new__store={"a": None, 'b"\\': 2})).sql == (
        """("new"."store" = E'"a"=>NULL, "b\\\\"\\\\\\\\"=>"2"')"""
    )
