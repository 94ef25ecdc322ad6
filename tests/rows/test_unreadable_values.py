"""Values that Python cannot read are read by PostgreSQL, in one query and without harm."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import DataError, InternalError, OperationalError, connections, transaction
from django.db.backends.postgresql.psycopg_any import DateRange, NumericRange

from pgpubsub_sql.errors import PayloadError
from tests.rows.models import Everything, Exotic, Licence
from tests.rows.support import decode, payload, sent
from tests.rows.values import FIELDS

pytestmark = pytest.mark.django_db


def test_ordinary_rows_need_no_query(django_assert_num_queries: Any) -> None:
    asked = ("range", "search", "numeric", "padded", "real")
    quick = {name: values[0] for name, values in FIELDS.items() if not any(map(name.count, asked))}
    Everything.objects.create(**quick)
    raw = sent(Everything)
    with django_assert_num_queries(0):
        decode(Everything, raw)


def test_unreadable_values_take_one_query_in_a_savepoint(django_assert_num_queries: Any) -> None:
    Everything.objects.create(integer_range=NumericRange(1, 2), date_range=DateRange(empty=True))
    raw = sent(Everything)
    with django_assert_num_queries(3):
        decode(Everything, raw)


def test_a_refused_value_does_not_break_the_transaction() -> None:
    Licence.objects.create(number="kept")
    with pytest.raises(PayloadError, match="malformed range literal"):
        decode(Everything, payload({"id": 1, "integer_range": "x"}))
    assert Licence.objects.count() == 1


def test_connection_errors_are_not_payload_errors() -> None:
    """A PayloadError parks a message at once, so a broken transaction must not look like one."""
    with pytest.raises(OperationalError):
        decode(Exotic, payload({"id": 1, "looked_up": "x"}))
    raw = payload({"id": 1, "integer_range": "[1,2)"})
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            decode(Everything, raw)
    with transaction.atomic():
        with suppress(DataError):
            Licence.objects.create(number="x" * 1000)
        with pytest.raises(transaction.TransactionManagementError):
            decode(Everything, raw)
    with transaction.atomic():
        with connections["default"].connection.cursor() as cursor, suppress(Exception):
            cursor.execute("SELECT 1/0")  # behind Django's back
        with pytest.raises(InternalError):
            decode(Everything, raw)
        transaction.set_rollback(True)
