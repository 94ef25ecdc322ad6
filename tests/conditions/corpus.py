"""Conditions of every kind by name; ``corpus.sql`` has the SQL of each."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.backends.postgresql.psycopg_any import (
    DateRange,
    DateTimeTZRange,
    NumericRange,
)
from django.db.models import (
    BooleanField,
    Case,
    DateField,
    ExpressionWrapper,
    F,
    FloatField,
    Func,
    IntegerField,
    JSONField,
    Q,
    TextField,
    Value,
    When,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import (
    Abs,
    Cast,
    Coalesce,
    Concat,
    ExtractHour,
    Greatest,
    JSONObject,
    Length,
    Lower,
    Now,
    NullIf,
    TruncHour,
    TruncMonth,
)
from django.db.models.lookups import Exact, GreaterThan, In, IsNull, LessThan

from pgpubsub_sql.sql.conditions import compile_condition
from tests.conditions.models import Colour, Level, Thing

UTC = dt.UTC
TOKEN = uuid.UUID("8f14e45f-ceea-467f-9575-1b2c3d4e5f60")
NOON = dt.datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
HOSTILE = "100%_ \\ ' \" $pgpubsub$ %s %(x)s {0} :'y' ☃\n"


def in_zone(hours: int) -> dt.timezone:
    return dt.timezone(dt.timedelta(hours=hours))


TEXT = {
    "exact": Q(new__name="Zoë"),
    "exact_hostile": Q(new__name=HOSTILE),
    "exact_none": Q(new__name=None),
    "exact_empty": Q(new__name=""),
    "iexact": Q(new__name__iexact="zOë"),
    "contains": Q(new__name__contains="o"),
    "contains_hostile": Q(new__name__contains=HOSTILE[:6]),
    "icontains": Q(new__name__icontains="Z"),
    "startswith_escapes": Q(new__name__startswith="100%_"),
    "istartswith": Q(new__name__istartswith="zo"),
    "endswith": Q(new__name__endswith="\n"),
    "iendswith_backslash": Q(new__code__iendswith="\\A"),
    "regex": Q(new__name__regex=r"^Z.+$"),
    "iregex": Q(new__name__iregex=r"^z.ë"),
    "in": Q(new__name__in=["Zoë", "%", None]),
    "in_expressions": Q(new__name__in=[F("old__name"), "Zoë"]),
    "isnull": Q(new__name__isnull=True),
    "is_not_null": Q(new__name__isnull=False),
    "range": Q(new__name__range=("A", "b")),
    "gt": Q(new__name__gt="Z"),
    "lower": Q(new__code__contains=Lower("old__code")),
    "startswith_column": Q(new__name__startswith=F("old__name")),
    "length": Q(GreaterThan(Length("new__name"), 3)),
    "concat": Q(
        Exact(Concat("new__name", Value("%"), "new__code", output_field=TextField()), "Zoë%\\a")
    ),
    "choice": Q(new__colour=Colour.RED),
    "choices": Q(new__colour__in=[Colour.RED, Colour.GREEN]),
    "in_set": Q(new__name__in={"Zoë", "%", "b", "c", "d", "e", "f", "g"}),
    "search": Q(
        Exact(
            ExpressionWrapper(
                Q(
                    Func(
                        SearchVector("new__name", config="simple"),
                        SearchQuery("Zoë", config="simple"),
                        arg_joiner=" @@ ",
                        template="%(expressions)s",
                        output_field=BooleanField(),
                    )
                ),
                output_field=BooleanField(),
            ),
            True,
        )
    ),
}

NUMBERS = {
    "integer": Q(new__number=7),
    "negative": Q(new__number=-7),
    "negative_power": Q(Exact(Value(-2) * F("new__number"), -14)),
    "integer_enum": Q(new__number=Level.HIGH.value),
    "too_big": Q(new__number__lt=2**40) & Q(new__number__gt=0),
    "big": Q(LessThan(F("new__number") + Value(2**70), 2**70)),
    "integer_gt_float": Q(new__number__gt=6.5),
    "decimal": Q(new__amount=Decimal("1.10")),
    "decimal_product": Q(GreaterThan(F("new__amount") * Decimal("1.1"), Decimal("1.2"))),
    "float": Q(new__ratio__gt=0.1),
    "float_exponent": Q(new__ratio__lt=1e300),
    "float_nan": Q(new__ratio=float("nan")),
    "float_infinity": Q(new__ratio=float("-inf")),
    "boolean": Q(new__flag=True),
    "not_boolean": Q(new__flag=False),
    "boolean_expression": Q(Exact(F("new__flag"), F("old__flag"))),
    "rose": Q(new__number__gt=F("old__number") + 1),
    "modulo": Q(Exact(F("new__number") % 4, 3)),
    "power": Q(GreaterThan(F("new__number") ** 2, 48)),
    "bits": Q(Exact(F("new__number").bitand(4), 4)),
    "absolute": Q(new__number=Abs("old__number")),
    "greatest": Q(Exact(Greatest("new__number", "old__number"), 7)),
    "coalesce": Q(Exact(Coalesce("new__number", "old__number", Value(0)), 0)),
    "null_if": Q(IsNull(NullIf("new__number", Value(7)), True)),
    "cast": Q(Exact(Cast("new__number", TextField()), "7")),
    "odd_name": Q(new__old__gt=F("old__old")),
    "odd_name_isnull": Q(old__old__isnull=True),
}

TIMES = {
    "moment": Q(new__moment=NOON),
    "moment_of_another_zone": Q(new__moment__gte=NOON.astimezone(in_zone(-8))),
    "moment_range": Q(new__moment__range=(NOON - dt.timedelta(hours=1), NOON)),
    "year": Q(new__moment__year=2026),
    "year_gte": Q(new__moment__year__gte=2026),
    "iso_year": Q(new__moment__iso_year=2026),
    "month": Q(new__moment__month=3),
    "week_day": Q(new__moment__week_day=1),
    "hour_of_moment": Q(new__moment__hour=12),
    "second_of_moment": Q(new__moment__second=0),
    "date_of_moment": Q(new__moment__date=dt.date(2026, 3, 29)),
    "date_year_of_moment": Q(new__moment__date__year__lt=2026),
    "time_of_moment": Q(new__moment__time__gte=dt.time(12)),
    "hour_elsewhere": Q(Exact(ExtractHour("new__moment", tzinfo=in_zone(5)), 17)),
    "month_began": Q(new__day__gte=TruncMonth("old__day")),
    "month_of_moment_began": Q(Exact(TruncMonth("new__moment"), TruncMonth("old__moment"))),
    "now": Q(new__moment__lt=Now()),
    "later": Q(new__moment__gt=F("old__moment") + dt.timedelta(hours=1)),
    "took_long": Q(GreaterThan(F("new__moment") - F("old__moment"), dt.timedelta(days=1))),
    "days_apart": Q(GreaterThan(F("new__day") - F("old__day"), dt.timedelta(days=1))),
    "day": Q(new__day=dt.date(2026, 3, 29)),
    "day_long_ago": Q(new__day__lt=dt.date(476, 9, 4)),
    "day_year": Q(new__day__year=2026),
    "day_in": Q(new__day__in=[dt.date(2026, 3, 29), dt.date(1, 1, 1)]),
    "date_or_moment": Q(Exact(Cast("new__moment", DateField()), F("new__day"))),
    "hour": Q(new__hour__lt=dt.time(12, 30, 0, 5)),
    "hour_began": Q(Exact(TruncHour("new__hour"), dt.time(10))),
    "hour_minute": Q(new__hour__minute=15),
    "length": Q(new__length=dt.timedelta(days=1, hours=2)),
    "length_negative": Q(new__length__lte=dt.timedelta(days=-1, microseconds=5)),
}

OTHERS = {
    "uuid": Q(new__token=TOKEN),
    "uuid_text": Q(new__token=str(TOKEN)),
    "uuid_icontains": Q(new__token__icontains="CEEA"),
    "uuid_in": Q(new__token__in=[TOKEN]),
    "bytes": Q(new__blob=b"\x00\\'%s"),
    "memory": Q(new__blob=memoryview(b"\x00\\'%s")),
    "address": Q(new__address="::1"),
    "address_startswith": Q(new__address__startswith="10."),
    "address_in": Q(new__address__in=["10.0.0.1", "::1"]),
    "key": Q(new__pk__gt=F("old__pk")),
    "key_isnull": Q(old__pk__isnull=True),
    "owner": Q(new__owner=1),
    "owner_id": Q(new__owner_id=1),
    "owner_pk": Q(new__owner__pk__in=[1, 5]),
    "owner_isnull": Q(new__owner__isnull=True),
    "owner_changed": Q(new__owner__gt=F("old__owner")),
    "parent": Q(new__parent=F("old__pk")),
}

JSON = {
    "json": Q(new__data={"a": [1, {"b": "c"}], "it's": None}),
    "json_number": Q(new__data=1.5),
    "json_contains": Q(new__data__contains={"it's": None}),
    "json_contained_by": Q(new__data__contained_by={"a": [1, {"b": "c"}], "it's": None, "z": 1}),
    "json_key": Q(new__data__a=[1, {"b": "c"}]),
    "json_index": Q(new__data__a__0=1),
    "json_path": Q(new__data__a__1__b="c"),
    "json_path_text": Q(new__data__a__1__b__icontains="C"),
    "json_path_hostile": Q(**{"new__data__it's %s \\": HOSTILE}),
    "json_path_hostile_deep": Q(**{"new__data__a__it's %s \\__isnull": True}),
    "json_key_null": Q(**{"new__data__it's": None}),
    "json_key_missing": Q(new__data__z__isnull=True),
    "json_key_present": Q(**{"new__data__it's__isnull": False}),
    "json_key_in": Q(new__data__a__0__in=[1, 2]),
    "json_key_gt": Q(new__data__a__0__gt=0),
    "json_key_exact_false": ~Q(new__data__a__0=1),
    "json_has_key": Q(new__data__has_key="it's"),
    "json_has_keys": Q(new__data__has_keys=["a", "it's"]),
    "json_has_any_keys": Q(new__data__has_any_keys=["a", "zz"]),
    "json_isnull": Q(new__data__isnull=True),
    "json_key_text": Q(Exact(KeyTextTransform("z", "new__data"), "1")),
    "json_key_changed": Q(new__data__a=F("old__data__a")),
    "json_key_cast": Q(GreaterThan(Cast(KeyTextTransform("z", "new__data"), FloatField()), 0.5)),
    "json_encoded": Q(new__encoded__at=NOON),
    "json_non_ascii": Q(new__encoded__contains={"größe": "☃"}),
    "json_object": Q(Exact(JSONObject(a=F("new__number")), Value({"a": 7}, JSONField()))),
}

LISTS_AND_RANGES = {
    "array": Q(new__tags=["a", "it's"]),
    "array_with_none": Q(new__tags=["a", None]),
    "array_empty": Q(new__tags=[]),
    "array_contains": Q(new__tags__contains=["it's"]),
    "array_contained_by": Q(new__tags__contained_by=["a", "it's", "z"]),
    "array_overlap": Q(new__tags__overlap=["z", "a"]),
    "array_length": Q(new__tags__len=2),
    "array_index": Q(new__tags__0="a"),
    "array_slice": Q(new__tags__0_1=["a"]),
    "array_in": Q(new__tags__in=[["a", "it's"], []]),
    "array_grew": Q(new__tags__len__gt=F("old__tags__len")),
    "array_of_arrays": Q(new__grid=[[1, 2], [3, -4]]),
    "array_of_arrays_index": Q(new__grid__1__1=-4),
    "span": Q(new__span=(1, 5)),
    "span_of_range": Q(new__span=NumericRange(1, 5, "[]")),
    "span_contains": Q(new__span__contains=3),
    "span_contains_range": Q(new__span__contains=NumericRange(2, 4)),
    "span_contained_by": Q(new__number__contained_by=NumericRange(0, 8)),
    "span_overlap": Q(new__span__overlap=NumericRange(4, None)),
    "span_fully_lt": Q(new__span__fully_lt=NumericRange(100, 200)),
    "span_adjacent": Q(new__span__adjacent_to=NumericRange(5, 6)),
    "span_startswith": Q(new__span__startswith=1),
    "span_isempty": Q(new__span__isempty=True),
    "span_empty": Q(new__span=NumericRange(empty=True)),
    "span_unbounded": Q(new__span__upper_inf=True),
    "amounts_overlap": Q(new__amounts__overlap=NumericRange(Decimal("2.5"), Decimal("2.6"), "[]")),
    "amounts": Q(new__amounts=NumericRange(Decimal("-1.5"), Decimal("2.5"), "(]")),
    "period": Q(new__period=DateTimeTZRange(NOON, NOON + dt.timedelta(days=1))),
    "period_contains": Q(new__period__contains=NOON),
    "period_contains_column": Q(new__period__contains=F("old__moment")),
    "days": Q(new__days=DateRange(dt.date(2026, 3, 1), dt.date(2026, 4, 1))),
    "days_contains": Q(new__days__contains=dt.date(2026, 3, 29)),
    "days_overlap": Q(new__days__overlap=F("old__days")),
}

LOGIC = {
    "and": Q(new__number=7, new__name="Zoë"),
    "or": Q(new__number=7) | Q(old__name="Zoë"),
    "xor": Q(new__number=7) ^ Q(old__name="Zoë"),
    "xor_of_three": Q(new__number=7) ^ Q(old__name="Zoë") ^ Q(new__flag=True),
    "not": ~Q(new__number=7),
    "not_and": ~Q(new__number=7, new__name="Zoë"),
    "not_or": ~(Q(new__number=7) | Q(old__number=7)),
    "not_not": ~~Q(new__number=7),
    "not_in": ~Q(new__number__in=[7, 8]),
    "not_in_none": ~Q(new__number__in=[7, None]),
    "not_isnull": ~Q(new__number__isnull=True),
    "not_contains": ~Q(new__name__contains="o"),
    "not_of_a_column_never_null": ~Q(old__kind=1),
    "became": Q(new__number=7) & ~Q(old__number=7),
    "changed": ~Q(new__number=F("old__number")),
    "changed_between_values": ~Q(new__number=F("old__number"))
    & ~Q(new__number=None, old__number=None),
    "some_never": Q(new__number__in=[]) | Q(new__number=7),
    "case": Q(
        Case(
            When(new__number__gt=F("old__number"), then=Value(True)),
            When(old__pk=None, then=F("new__flag")),
            default=Value(False),
            output_field=BooleanField(),
        )
    ),
    "case_value": Q(
        In(
            Case(When(~Q(new__name="Zoë"), then=1), default=2, output_field=IntegerField()),
            [2, 3],
        )
    ),
    "wrapped": Q(ExpressionWrapper(Q(new__number=7) | Q(old__flag=True), BooleanField())),
    "not_wrapped": ~Q(GreaterThan(F("new__number"), F("old__number"))),
    "distinct": Q(
        Func(
            F("new__number"),
            F("old__number"),
            template="(%(expressions)s)",
            arg_joiner=" IS DISTINCT FROM ",
            output_field=BooleanField(),
        )
    ),
}

# The meaning of None in a list for exclude() has changed in Django 6.1.
OF_ONE_VERSION = {"logic_not_in_none"}

CONDITIONS: dict[str, Q] = {
    f"{group}_{name}": condition
    for group, conditions in {
        "text": TEXT,
        "number": NUMBERS,
        "time": TIMES,
        "other": OTHERS,
        "json": JSON,
        "list": LISTS_AND_RANGES,
        "logic": LOGIC,
    }.items()
    for name, condition in conditions.items()
}


def rows() -> list[dict[str, Any]]:
    """Return rows such that each condition holds for some of them and not for others."""
    day = dt.date(2026, 3, 29)
    full = {
        "name": "Zoë",
        "code": "\\a",
        "colour": Colour.RED,
        "number": 7,
        "amount": Decimal("1.10"),
        "ratio": 0.25,
        "flag": True,
        "moment": NOON,
        "day": day,
        "hour": dt.time(10, 15),
        "length": dt.timedelta(days=1, hours=2),
        "token": TOKEN,
        "blob": b"\x00\\'%s",
        "address": "10.0.0.1",
        "data": {"a": [1, {"b": "c"}], "it's": None},
        "encoded": {"at": NOON, "größe": "☃"},
        "tags": ["a", "it's"],
        "grid": [[1, 2], [3, -4]],
        "span": NumericRange(1, 5),
        "amounts": NumericRange(Decimal("-1.5"), Decimal("2.5"), "(]"),
        "period": DateTimeTZRange(NOON, NOON + dt.timedelta(days=1)),
        "days": DateRange(dt.date(2026, 3, 1), dt.date(2026, 4, 1)),
        "owner_id": 1,
        "old": 1,
    }
    other = {
        "name": HOSTILE,
        "code": "b",
        "colour": "x",
        "number": -7,
        "amount": Decimal("-300.5"),
        "ratio": float("nan"),
        "flag": False,
        "moment": NOON - dt.timedelta(days=400, hours=-13, seconds=1),
        "day": dt.date(1, 1, 1),
        "hour": dt.time(23, 59, 59),
        "length": -dt.timedelta(days=2),
        "token": uuid.UUID(int=5),
        "blob": b"",
        "address": "::1",
        "data": {"it's %s \\": HOSTILE, "a": {"z": [], "it's %s \\": 0}},
        "encoded": {"at": None},
        "tags": [],
        "grid": [[1, 2], [3, 4]],
        "span": NumericRange(empty=True),
        "amounts": NumericRange(Decimal("8"), None),
        "period": DateTimeTZRange(None, NOON),
        "days": DateRange(dt.date(2027, 3, 1), None),
        "owner_id": 2,
        "old": 2,
    }
    third = {
        "name": "",
        "number": 2,
        "ratio": float("-inf"),
        "moment": dt.datetime(2026, 5, 1, 22, tzinfo=UTC),
        "day": dt.date(2026, 5, 1),
        "data": 1.5,
        "tags": ["a", None],
        "span": NumericRange(1, 6),
        "parent_id": 1,
    }
    fourth = {
        "name": "100%_ o",
        "day": dt.date(2026, 4, 15),
        "data": {"a": [2], "z": 1},
        "span": NumericRange(None, None),
    }
    some = [full, other, third, fourth, {}]
    return [row | {"kind": kind} for kind, row in enumerate(some)]


def compiled() -> str:
    """Return the text of ``corpus.sql``: the SQL of every condition."""
    return "\n".join(
        f"-- {name}\n{compile_condition(Thing, condition).sql}\n"
        for name, condition in CONDITIONS.items()
        if name not in OF_ONE_VERSION
    )
