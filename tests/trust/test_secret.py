"""The secret with which messages are signed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from pgpubsub_sql import notify
from pgpubsub_sql.migrations_ops.shared_operations import CreateHelper
from pgpubsub_sql.worker.signatures import SignatureCheck
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import Shout
from tests.app.models import Item
from tests.ledger import calls, numbers, sql
from tests.trust.support import FORGED, NEWS, work

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_schema_has_a_secret_of_its_own(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: messages of another tenant are neither handled nor called forged."""
    sql("CREATE SCHEMA tenant")
    try:
        sql("CREATE TABLE tenant.pgpubsub_sql_secret AS SELECT sha256('tenant') AS secret")
        for statement in CreateHelper("send_v1", "pgpubsub_send_v1(text, jsonb)")._created(
            "tenant"
        ):
            sql(statement.replace("%", "%%"))
        sql("SELECT tenant.pgpubsub_send_v1(%s, %s)", NEWS, FORGED)
        Item.objects.create(name="ours")
        work(worker)
        assert [call["name"] for call in calls("news")] == ["ours"]
        tenant = SignatureCheck(worker.delivery.session)
        sql("SET search_path = tenant, public")
        tenant.learn()
        assert tenant._secrets not in ([], worker.delivery.signatures._secrets)
    finally:
        sql("RESET search_path")
        sql("DROP SCHEMA tenant CASCADE")
    assert "Refused" not in caplog.text


@pytest.mark.parametrize("statement", ["TRUNCATE", "DELETE FROM"])
def test_a_deleted_secret_is_created_again(worker: Worker, statement: str) -> None:
    """F63: by whoever sends next, so that nothing is lost."""
    before = sql("SELECT secret FROM pgpubsub_sql_secret")
    sql(f"{statement} pgpubsub_sql_secret")
    with transaction.atomic():
        sql("SET TRANSACTION READ ONLY")
        notify(Shout, number=1)
    Item.objects.create(name="signed")
    Item.objects.create(name="so is this")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["signed", "so is this"]
    assert numbers("hear") == [1, -1]
    ((made,),) = sql("SELECT secret FROM pgpubsub_sql_secret")
    assert len(made) == 32
    assert (made,) not in before


def test_a_replaced_or_added_secret_is_learned(worker: Worker) -> None:
    """F63: as after a restore of data into a migrated database."""
    sql("INSERT INTO pgpubsub_sql_secret SELECT 'restored'")
    Item.objects.create(name="two")
    sql("DELETE FROM pgpubsub_sql_secret WHERE secret <> 'restored'")
    Item.objects.create(name="other")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["two", "other"]


def test_flush_leaves_the_secret(worker: Worker) -> None:
    """F63: so that a TransactionTestCase, which flushes, may run a worker."""
    before = sql("SELECT secret FROM pgpubsub_sql_secret")
    from django.core.management import call_command

    call_command("flush", interactive=False, verbosity=0)
    assert sql("SELECT secret FROM pgpubsub_sql_secret") == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pgpubsub_sql_secret",
        "SELECT * FROM pgpubsub_sql_longpayload",
        "SELECT * FROM pgpubsub_sql_notification",
        "SELECT pgpubsub_send_v1('app.Shout', '{}')",
        "SELECT pgpubsub_publish_v1('app.Shout', '{}')",
        "SELECT pgpubsub_notify('app.Job', '{}')",
    ],
)
def test_nobody_else_may_read_the_secret_or_execute_its_functions(
    forger: Any, statement: str
) -> None:
    """F63."""
    with pytest.raises(connection.Database.ProgrammingError, match="permission denied"):
        forger.execute(statement)
