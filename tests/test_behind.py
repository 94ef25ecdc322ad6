"""A worker that is sent more than it reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from pgpubsub_sql import notify
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.ledger import listeners_wait, numbers, sql, waiting

pytestmark = pytest.mark.django_db(transaction=True)


def status() -> Any:
    output = StringIO()
    call_command("pgpubsub", "status", json=True, stdout=output)
    return json.loads(output.getvalue())


def problems() -> str:
    return "\n".join(status()["problems"])


def test_a_worker_that_does_not_read_is_seen(listen: Callable[..., Listen]) -> None:
    """F50: its server process waits in a transaction, and keeps vacuum from its work."""
    worker = listen("--channels", "app.Job", "app.Shout").ready()
    with listeners_wait():
        notify(Job(number=1, mood="wait"))
        eventually(lambda: waiting() == 1)
        assert status()["behind"] == 0
        message = "json_build_object('number', n, 'text', repeat('x', 7000))::text"
        sql(f"SELECT pg_notify('app.Shout', {message}) FROM generate_series(1, 1000) AS n")
        eventually(lambda: "1 worker cannot be sent more: while a listener runs" in problems())
        ((has_snapshot,),) = sql(
            "SELECT backend_xmin IS NOT NULL FROM pg_stat_activity "
            "WHERE application_name = 'pgpubsub_sql listen'"
        )
        assert has_snapshot
    eventually(lambda: len(numbers("hear")) == 1000)
    assert status()["behind"] == 0
    assert worker.stop() == 0
