"""What the log says of a failed statement."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.worker.outages import await_database, cause
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


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, DatabaseError])
def test_a_worker_that_begins_while_the_server_goes_away_waits_for_it(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever error the driver has for it: psycopg2 raises a bare DatabaseError now and then."""
    monkeypatch.setattr("pgpubsub_sql.worker.outages.wait", lambda *arguments: None)
    errors = [kind("server closed the connection unexpectedly")]

    def prepare() -> str:
        if errors:
            raise errors.pop()
        return "prepared"

    assert await_database("default", prepare, None) == "prepared"


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_not_wait_for_what_does_not_end_by_itself() -> None:
    def prepare() -> None:
        sql("SELECT * FROM no_such_table")

    with pytest.raises(ProgrammingError):
        await_database("default", prepare, None)
