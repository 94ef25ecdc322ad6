"""Sentry's own SDK, with a transport that keeps what it would send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Shout
from tests.delivery.sending import jobs
from tests.ledger import stored
from tests.workers import hear

sentry_sdk = pytest.importorskip("sentry_sdk")
pytestmark = pytest.mark.django_db(transaction=True)

DO_JOB = "tests.app.listeners.do_job"


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What Sentry gets, by the code of the page."""
    from sentry_sdk.integrations.logging import LoggingIntegration
    from sentry_sdk.transport import Transport

    from example.tracking import track

    sent: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            if event := envelope.get_event():
                sent.append(event)

    # Integrations patch classes for good, which other tests need not meet.
    off = {"default_integrations": False, "auto_enabling_integrations": False}
    logs = [LoggingIntegration()]
    track("https://key@sentry.invalid/1", transport=Kept, integrations=logs, **off)
    yield sent
    sentry_sdk.get_client().close()
    sentry_sdk.init()


def test_a_failed_attempt_is_reported_with_channel_and_listener(events: list[Any]) -> None:
    jobs("bad")
    (row,) = stored().values()
    Delivery([Job], using="default", schema="public").handle_stored("app.Job")
    (event,) = events
    (error,) = event["exception"]["values"]
    assert (error["type"], event["level"]) == ("RuntimeError", "error")
    assert event["logger"] == "pgpubsub_sql.worker"
    assert event["tags"] == {"channel": "app.Job", "listener": DO_JOB}
    assert event["fingerprint"] == ["{{ default }}", "app.Job", DO_JOB]
    known = {name: event["extra"][name] for name in ("notification_id", "attempt")}
    assert known == {"notification_id": row.pk, "attempt": 1}
    assert error["stacktrace"]["frames"][-1]["function"] == "fail"


def test_an_ephemeral_message_is_reported_too(events: list[Any]) -> None:
    delivery = Delivery([Shout], using="default", schema="public")
    hear(delivery, "app.Shout", '{"number": 1, "mood": "bad"}')
    (event,) = events
    assert event["tags"]["channel"] == "app.Shout"


def test_what_is_handled_is_not_reported(events: list[Any]) -> None:
    jobs("good")
    Delivery([Job], using="default", schema="public").handle_stored("app.Job")
    assert events == []


def test_other_errors_keep_their_group(events: list[Any]) -> None:
    sentry_sdk.capture_exception(ValueError("of a page"))
    (event,) = events
    assert "fingerprint" not in event
