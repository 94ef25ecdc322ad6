"""``transaction.on_commit()`` in listeners."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from django.db import transaction

from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.conftest import Listen, eventually
from tests.delivery.sending import drain, jobs
from tests.ledger import calls, listeners_wait, numbers, sql, stored, stranger
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


def test_callbacks_run_after_the_commit_and_fail_by_themselves(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    jobs("good", "call back", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 2, 3]
    assert len(calls("called back")) == 1
    assert not stored()
    assert (
        "callback given to transaction.on_commit() by a listener of channel app.Job" in caplog.text
    )
    assert "bad mood" in caplog.text


def test_a_failing_callback_of_an_ephemeral_message_is_logged(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    hear(delivery, "app.Shout", '{"number": 1, "mood": "call back"}')
    assert numbers("hear") == [1]
    assert len(calls("called back")) == 1
    assert "will not be retried" not in caplog.text


def test_a_message_that_failed_has_no_callbacks(delivery: Delivery) -> None:
    """Robust or not, under a savepoint of ours or none; those of its neighbours run."""
    jobs("call back both", "call back and fail", "call back both")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    assert len(calls("called back")) == 4
    assert not calls("never called back")


def test_callbacks_of_a_batch_handled_again_run_once(delivery: Delivery) -> None:
    jobs("call back both", "close", "call back both")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    assert len(calls("called back")) == 4


def test_a_failing_callback_does_not_stop_the_next(
    delivery: Delivery, caplog: pytest.LogCaptureFixture
) -> None:
    jobs("call back badly", "call back both")
    drain(delivery)
    assert len(calls("called back")) == 2
    assert caplog.text.count("callback given to transaction.on_commit()") == 2
    assert not stored()


def test_callbacks_run_when_other_sessions_see_the_commit(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def look() -> None:
        with stranger() as other:
            other.execute("SELECT count(*) FROM app_entry")
            seen.extend(other.fetchall())

    monkeypatch.setitem(listeners.MOODS, "good", lambda: transaction.on_commit(look))
    jobs("good", "good")
    drain(delivery)
    assert seen == [(2,), (2,)]


@pytest.mark.parametrize("options", [(), ("--worker",)])
@pytest.mark.parametrize("channel", ["app.Job", "app.Shout"])
def test_sigterm_waits_for_a_callback_as_for_a_listener(
    listen: Callable[..., Listen], channel: str, options: tuple[str, ...]
) -> None:
    """F49: what is committed has its callbacks, and the worker then ends without being killed."""
    listener = listen("--channels", channel, *options).ready()
    with listeners_wait():
        sql('SELECT pgpubsub_notify(%s, \'{"number": 1, "mood": "hang in a callback"}\')', channel)
        eventually(lambda: "this listener hangs" in listener.log)
        listener.process.send_signal(signal.SIGTERM)
        eventually(lambda: options or "to finish the messages in flight" in listener.log)
        assert listener.process.poll() is None
    assert listener.process.wait(30) == 0, listener.log
    assert not stored()
