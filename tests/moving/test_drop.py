"""``manage.py pgpubsub adopt --drop``: the last step of a move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from select import select
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from pgpubsub_sql.migrations_ops import predecessor_removal
from pgpubsub_sql.sql.predecessor import has_old_table, old_functions
from pgpubsub_sql.worker.doorbell import Doorbell
from tests.app.channels import Job
from tests.management.support import run, run_json
from tests.moving.old import create_trigger, execute, keep, safe_name


@contextmanager
def session() -> Iterator[Any]:
    """Another session, and its cursor."""
    with closing(connections.create_connection("default")) as other, other.cursor() as cursor:
        yield cursor


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who could answer is slow."""
    monkeypatch.setattr(predecessor_removal, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(predecessor_removal, "LOCK_TIMEOUT", "50ms")


def refusal() -> str:
    with pytest.raises(CommandError) as caught:
        run("adopt", "--drop", "--noinput")
    assert has_old_table(connections["default"])
    return str(caught.value)


@pytest.mark.usefixtures("committed", "impatient")
class TestDrop:
    def test_all_that_is_left_behind_goes(self) -> None:
        name = create_trigger()
        execute(f"DROP TRIGGER {name} ON app_item")
        kind = ContentType.objects.create(app_label="pgpubsub", model="notification")
        Permission.objects.create(content_type=kind, codename="view_notification", name="view")
        recorder = MigrationRecorder(connections["default"])
        recorder.record_applied("pgpubsub", "0001_initial")
        assert run_json("adopt", "--drop", "--noinput")["dropped"] == [
            "the table pgpubsub_notification",
            f"the function {name}",
            "the function pgtrigger_pgpubsub_notification_set_db_version_ac4cd",
            "the content type pgpubsub.notification",
            "the records of the migrations of pgpubsub",
        ]
        assert not has_old_table(connections["default"])
        assert old_functions(connections["default"]) == []
        assert not ContentType.objects.filter(app_label="pgpubsub").exists()
        assert not Permission.objects.filter(codename="view_notification", name="view").exists()
        assert not recorder.migration_qs.filter(app="pgpubsub").exists()

    def test_it_is_refused_while_messages_remain(self) -> None:
        keep(safe_name(Job), {"kwargs": {"number": 1}})
        assert f"Messages are still stored in pgpubsub_notification: 1 of {safe_name(Job)}" in (
            refusal()
        )

    def test_it_is_refused_while_a_trigger_remains(self) -> None:
        """M5: without the table, each INSERT that fires it would fail."""
        name = create_trigger()
        try:
            assert f"still there: {name} on app_item." in refusal()
        finally:
            execute(f"DROP FUNCTION {name}() CASCADE")

    def test_it_is_refused_while_the_app_is_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M4: its processes still run."""
        monkeypatch.setattr(apps, "is_installed", lambda name: name == "pgpubsub")
        assert "pgpubsub_sql.compat" in refusal()

    def test_it_is_refused_while_a_transaction_uses_the_table(self) -> None:
        """M4: a message in flight, however long its listener takes."""
        with session() as theirs:
            theirs.execute("BEGIN; SELECT FROM pgpubsub_notification FOR UPDATE")
            theirs.execute("SELECT pg_backend_pid()")
            (pid,) = theirs.fetchone()
            assert f"(pid {pid})" in refusal()
            theirs.execute("ROLLBACK")
        run("adopt", "--drop", "--noinput")

    def test_it_is_refused_while_a_process_has_just_used_the_table(self) -> None:
        """M4: a web process that runs old code, between two requests."""
        with session() as theirs:
            theirs.execute("SELECT pg_backend_pid()")
            (pid,) = theirs.fetchone()
            theirs.execute('SELECT count(*) FROM "pgpubsub_notification"')
            assert f"(pid {pid})" in refusal()

    def test_it_asks_first(self) -> None:
        with pytest.raises(CommandError, match="for good"):
            run("adopt", "--drop")


def test_it_is_refused_while_a_worker_answers(
    committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M4: a worker that has been idle looks into the table when it is rung, and waits for us."""
    monkeypatch.setattr(predecessor_removal, "PROBE_SECONDS", 60.0)
    theirs, ready = Doorbell([safe_name(Job)], using="default"), threading.Event()

    def work() -> None:
        theirs.open()
        ready.set()
        while not theirs.notifies():
            select([theirs], [], [], 60)
        theirs.execute("SELECT count(*) FROM pgpubsub_notification")
        theirs.close()
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    assert ready.wait(60)
    assert "Sessions still use pgpubsub_notification" in refusal()
    worker.join(60)


def test_it_can_be_done_again(committed: None) -> None:
    run("adopt", "--drop", "--noinput")
    assert "There is nothing to drop." in run("adopt", "--drop", "--noinput")
