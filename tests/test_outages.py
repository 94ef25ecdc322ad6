"""What the log says of a failed statement."""

from __future__ import annotations

import pytest
from django.db import DatabaseError

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.worker.outages import cause
from tests.ledger import sql


def failure(statement: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as raised:
        sql(statement)
    return raised.value


@pytest.mark.django_db(transaction=True)
def test_a_reason_is_looked_for_where_something_is_missing() -> None:
    """If that fails, too, the first error is the one that says what is wrong."""
    error = failure("SELECT * FROM no_such_table")
    assert cause("default", error) is error
    sql("ALTER TABLE pgpubsub_sql_history RENAME TO pgpubsub_sql_hidden")
    try:
        assert isinstance(cause("default", error), NotReady)
    finally:
        sql("ALTER TABLE pgpubsub_sql_hidden RENAME TO pgpubsub_sql_history")
    sql("BEGIN")
    try:
        error = failure("SELECT * FROM no_such_table")
        failure("SELECT 1")  # as everything in a failed transaction
        assert cause("default", error) is error
    finally:
        sql("ROLLBACK")
