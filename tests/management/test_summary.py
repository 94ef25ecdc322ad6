"""What ``listen`` says before it begins."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.db import connection

from pgpubsub_sql import notify
from pgpubsub_sql.management import summary
from pgpubsub_sql.management.summary import log_summary
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.worker.processes import WorkerOptions
from tests.app.channels import Job
from tests.ledger import sql

pytestmark = pytest.mark.django_db
OPTIONS = WorkerOptions(channels=("app.Job", "app.Shout"), place="schema s of database d")


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pgpubsub_sql.worker")


def test_it_names_the_place_the_channels_and_the_listeners(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_summary(OPTIONS, None)
    assert caplog.messages == [
        "In schema s of database d: 2 channels, 4 listeners",
        "  app.Job, durable; calls tests.app.listeners.do_job",
        "  app.Shout, ephemeral; calls tests.app.listeners.hear, "
        "tests.app.listeners.hear_only_number, tests.app.listeners.hear_async",
        "To stop: Ctrl-C, or SIGTERM, which finishes the messages in flight. The same again, at "
        "least 1 s later, aborts them",
    ]


def test_it_counts_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    for delay in (None, None, timedelta(hours=1), timedelta()):
        notify(Job(number=1), delay=delay)
    sql(
        "UPDATE pgpubsub_sql_notification SET available_at = NULL WHERE id IN "
        "(SELECT max(id) FROM pgpubsub_sql_notification)"
    )
    sql("UPDATE pgpubsub_sql_subscription SET paused_at = now() WHERE channel = 'app.Job'")
    log_summary(OPTIONS, None)
    assert caplog.messages[1].startswith(
        "  app.Job, durable; 2 ready, 1 waiting, 1 parked; paused; calls "
    )


def test_many_channels_are_not_all_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST_CHANNELS", 1)
    log_summary(OPTIONS, None)
    assert caplog.messages[1:3] == [
        "  app.Job, durable; calls tests.app.listeners.do_job",
        "  and 1 other channel: python manage.py pgpubsub ls",
    ]


def test_it_says_which_migrations_have_not_run(caplog: pytest.LogCaptureFixture) -> None:
    """Those of any app: a listener may need a column that is not there yet."""
    log_summary(OPTIONS, audit(connection))
    assert not any("Not applied" in line for line in caplog.messages)
    sql("DELETE FROM django_migrations WHERE app = 'auth' AND name LIKE '001%'")
    log_summary(OPTIONS, audit(connection))
    assert (
        caplog.messages[-2]
        == "Not applied yet: 3 migrations of auth. Run: python manage.py migrate"
    )


def test_a_drain_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    log_summary(dataclasses.replace(OPTIONS, drain=True), None)
    assert not any("To stop" in line for line in caplog.messages)
