"""Replay, retry and discard in the admin."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db import connection
from django.test import Client

from pgpubsub_sql.admin import changes
from pgpubsub_sql.models import BATCH, Notification
from tests.admin.conftest import MESSAGES, text
from tests.app.channels import Step
from tests.stored import NAME, ids, in_flight, park, retrying, store

OLD = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


OUTAGE = {
    "channel": NAME,
    "reason": "smtplib.SMTPException",
    "since": "2026-01-30T00:00",
    "until": "2026-02-01T00:00",
}


def act(client: Client, action: str, *rows: Notification, **more: Any) -> Any:
    """Choose *rows* in the list, and an action."""
    data = {"action": action, "index": 0, "_selected_action": [row.pk for row in rows]}
    return client.post(MESSAGES, data | more, follow=True)


def form(page: str) -> dict[str, Any]:
    """Return the hidden fields of the page that asks for confirmation."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page):
        found.setdefault(name, []).append(value)
    found.pop("csrfmiddlewaretoken", None)
    return found


def flat(page: str) -> str:
    """Return the text of a page."""
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


class TestChosen:
    def test_replay(self, operator: Client) -> None:
        rows, left = [park(), retrying()], park()
        page = text(act(operator, "replay", *rows))
        assert "2 messages were replayed." in page
        assert ids(*Notification.objects.ready()) == ids(*rows)
        assert ids(*Notification.objects.failed()) == ids(left)
        assert {row.attempts for row in Notification.objects.ready()} == {0}

    def test_retry_leaves_out_what_is_parked(self, operator: Client) -> None:
        failed, parked = retrying(), park()
        page = text(act(operator, "retry", failed, parked))
        assert "1 message was retried." in page
        assert "1 message was skipped" in page
        assert ids(*Notification.objects.ready()) == ids(failed)
        assert Notification.objects.get(pk=failed.pk).attempts == 3

    def test_discard_asks_first(self, operator: Client) -> None:
        rows, left = [park(), park()], park()
        page = text(act(operator, "discard", *rows))
        assert "2 messages are concerned. They are deleted, and never handled." in flat(page)
        assert Notification.objects.count() == 3
        page = text(operator.post(f"{MESSAGES}chosen/discard/", form(page), follow=True))
        assert "2 messages were discarded." in page
        assert ids(*Notification.objects.all()) == ids(left)

    def test_what_a_worker_has_is_skipped(self, transactional_db: None, operator: Client) -> None:
        """Django's own delete would wait for it."""
        held, other = park(), park()
        with in_flight(held.pk):
            page = text(act(operator, "replay", held, other))
        assert "1 message was replayed." in page
        assert "1 message was skipped: a worker has it, or it has changed meanwhile." in page

    def test_select_across_chooses_no_more(self, operator: Client) -> None:
        row, _ = park(), park()
        act(operator, "replay", row, select_across="1")
        assert ids(*Notification.objects.ready()) == ids(row)

    def test_the_page_of_a_message_has_buttons(self, operator: Client) -> None:
        row = park()
        page = text(operator.get(f"{MESSAGES}{row.pk}/change/"))
        assert re.findall(r'formaction="([^"]+)" name="id" value="(\d+)"', page) == [
            (f"{MESSAGES}chosen/{name}/", str(row.pk)) for name in ("replay", "retry", "discard")
        ]
        operator.post(f"{MESSAGES}chosen/replay/", {"id": row.pk})
        assert ids(*Notification.objects.ready()) == ids(row)
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.action_flag) == (str(row.pk), CHANGE)

    def test_an_id_that_is_none_is_refused(self, operator: Client) -> None:
        assert operator.post(f"{MESSAGES}chosen/replay/", {"id": "x"}).status_code == 400
        assert operator.get(f"{MESSAGES}chosen/replay/").status_code == 302
        assert operator.get(f"{MESSAGES}chosen/bake/").status_code == 404


class TestAll:
    def outage(self) -> tuple[list[Notification], list[Notification]]:
        """Store 200 messages of an outage, and others that failed otherwise."""
        outage = {"reason": "smtplib.SMTPException", "failed_at": OLD}
        rows = [park(n, **outage) if n % 2 else retrying(n, **outage) for n in range(200)]
        others = [
            park(reason="smtplib.SMTPException"),
            park(reason="ValueError", failed_at=OLD),
            park(channel=Step.postgres_name(), **outage),
        ]
        return rows, others

    def test_the_messages_of_an_outage_are_replayed_and_no_others(self, operator: Client) -> None:
        rows, others = self.outage()
        assert f"{MESSAGES}all/replay/?channel=app.Job&amp;reason=smtplib" in text(
            operator.get(MESSAGES, OUTAGE)
        )
        page = text(operator.get(f"{MESSAGES}all/replay/", OUTAGE))
        assert "200 messages are concerned." in flat(page)
        assert "Reason: smtplib.SMTPException" in page
        assert "Failed since 2026-01-30 00:00:00" in page
        assert not Notification.objects.ready().exists()
        late = park(reason="smtplib.SMTPException", failed_at=OLD + datetime.timedelta(days=9))
        page = text(operator.post(f"{MESSAGES}all/replay/", form(page), follow=True))
        assert "200 messages were replayed." in page
        assert ids(*Notification.objects.ready()) == ids(*rows)
        assert ids(*Notification.objects.failed()) == ids(*others, late)

    def test_what_fails_after_the_question_is_left_out(self, operator: Client) -> None:
        before = park()
        page = text(operator.get(f"{MESSAGES}all/discard/"))
        after = park()
        operator.post(f"{MESSAGES}all/discard/", form(page))
        assert ids(*Notification.objects.all()) == ids(after) != ids(before)

    def test_one_entry_of_the_log_tells_what_was_done(self, operator: Client) -> None:
        self.outage()
        page = text(operator.get(f"{MESSAGES}all/discard/", OUTAGE))
        operator.post(f"{MESSAGES}all/discard/", form(page))
        entry = LogEntry.objects.get()
        assert (entry.action_flag, entry.object_id) == (DELETION, None)
        assert entry.get_change_message() == "200 messages were discarded."
        assert "Channel: app.Job" in entry.object_repr

    def test_retry_counts_only_what_it_retries(self, operator: Client) -> None:
        self.outage()
        page = text(operator.get(f"{MESSAGES}all/retry/", OUTAGE))
        assert "100 messages are concerned." in flat(page)
        operator.post(f"{MESSAGES}all/retry/", form(page))
        assert Notification.objects.ready().count() == 100

    def test_it_goes_on_after_ten_seconds(
        self, operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes.MessageChange.run, "__kwdefaults__", {"seconds": 0.0})
        Notification.objects.bulk_create(
            Notification(channel=NAME, payload={}, available_at=None) for _ in range(BATCH + 1)
        )
        page = text(operator.get(f"{MESSAGES}all/replay/"))
        page = text(operator.post(f"{MESSAGES}all/replay/", form(page)))
        assert f"{BATCH} messages were replayed." in page
        assert "1 message is concerned." in flat(page)
        assert "Go on" in page
        operator.post(f"{MESSAGES}all/replay/", form(page))
        assert Notification.objects.ready().count() == BATCH + 1

    def test_batches_are_committed_although_requests_are_atomic(
        self, transactional_db: None, operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        transactions = []
        real = changes.MessageChange.run

        def run(self: Any, rows: Any) -> Any:
            transactions.append(connection.in_atomic_block)
            return real(self, rows)

        monkeypatch.setattr(changes.MessageChange, "run", run)
        row = park()
        page = text(operator.get(f"{MESSAGES}all/replay/"))
        operator.post(f"{MESSAGES}all/replay/", form(page))
        act(operator, "replay", park())
        operator.post(f"{MESSAGES}chosen/replay/", {"id": row.pk})
        assert transactions == [False, False, False]

    @pytest.mark.parametrize("parameters", [{"show": "ready"}, {"show": "x"}, {"since": "x"}])
    def test_other_lists_are_not_changed_at_once(self, operator: Client, parameters: Any) -> None:
        store()
        assert operator.get(f"{MESSAGES}all/discard/", parameters).status_code == 400
        assert "all/discard" not in text(operator.get(MESSAGES, {"show": "ready"}))

    def test_nothing_matches(self, operator: Client) -> None:
        page = text(operator.get(f"{MESSAGES}all/discard/", {"channel": "app.None"}))
        assert "0 messages are concerned." in flat(page)
        assert "<button" not in page.partition('class="pgpubsub-confirm"')[2]


class TestPermissions:
    @pytest.mark.parametrize(
        ("permissions", "allowed"),
        [
            (("view_notification",), set()),
            (("view_notification", "replay"), {"replay", "retry"}),
            (("view_notification", "discard"), {"discard"}),
            (("replay", "discard"), set()),
        ],
    )
    def test_each_is_asked_for(
        self, client_of: Callable[..., Client], permissions: tuple[str, ...], allowed: set[str]
    ) -> None:
        client, row = client_of(*permissions), park()
        for name in changes.CHANGES:
            may = name in allowed
            one = client.get(f"{MESSAGES}all/{name}/")
            assert one.status_code == (200 if may else 403)
            if not may:
                assert client.post(f"{MESSAGES}chosen/{name}/", {"id": row.pk}).status_code == 403
                act(client, name, row)
        assert Notification.objects.parked().count() == 1
        if "view_notification" in permissions:
            page = text(client.get(MESSAGES))
            assert set(re.findall(r'<option value="(\w+)">', page)) == allowed

    def test_a_forged_form_is_refused(self, operator: Client) -> None:
        row = park()
        client = Client(enforce_csrf_checks=True)
        client.cookies = operator.cookies
        assert client.post(f"{MESSAGES}all/discard/", {"confirmed": "1"}).status_code == 403
        assert client.post(f"{MESSAGES}chosen/replay/", {"id": row.pk}).status_code == 403
