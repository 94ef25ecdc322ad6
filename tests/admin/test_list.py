"""The list of messages in the admin."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from pgpubsub_sql.admin import selection
from pgpubsub_sql.models import Notification
from tests.admin.conftest import MESSAGES, text
from tests.app.channels import Step
from tests.ledger import sql
from tests.stored import HOUR, NAME, TRACEBACK, park, retrying, store

STEP = Step.postgres_name()


def listed(client: Client, **parameters: Any) -> list[int]:
    """Return the ids in the list, in their order."""
    page = text(client.get(MESSAGES, parameters))
    return [int(pk) for pk in re.findall(rf'href="{MESSAGES}(\d+)/change/', page)]


class TestWhatIsListed:
    def test_it_opens_on_all_that_has_failed(self, operator: Client) -> None:
        """F55: what waits for its next attempt is among it."""
        failed = [park(), retrying(), retrying(channel="app.Aaa")]
        store()
        store(available_at=timezone.now() + HOUR)
        assert listed(operator) == [failed[2].pk, failed[0].pk, failed[1].pk]

    def test_each_state_has_its_list(self, operator: Client) -> None:
        rows = {
            "parked": park(),
            "retrying": retrying(),
            "ready": store(),
            "waiting": store(available_at=timezone.now() + HOUR),
        }
        for state in ("parked", "ready"):
            assert listed(operator, show=state) == [rows[state].pk]
        assert listed(operator, show="retrying") == [rows["retrying"].pk]
        assert set(listed(operator, show="waiting")) == {rows["waiting"].pk, rows["retrying"].pk}

    def test_ready_messages_are_in_the_order_of_their_claim(self, operator: Client) -> None:
        """Channel by channel; what is handled alone comes first."""
        now = timezone.now()
        late = store(channel="app.B", available_at=now)
        early = store(channel="app.B", available_at=now - HOUR)
        alone = store(channel="app.B", alone=True)
        other = store(channel="app.A")
        assert listed(operator, show="ready") == [row.pk for row in (other, alone, early, late)]

    def test_the_messages_of_one_subscription(self, operator: Client) -> None:
        """The page of channels leads to them."""
        mailed, nameless = park(subscription="mail"), park()
        assert listed(operator, subscription="mail") == [mailed.pk]
        assert listed(operator, subscription="") == [nameless.pk]
        page = text(operator.get(MESSAGES))
        assert "?subscription=mail" in page
        assert f"{NAME} (mail)</td>" in page
        assert f"{NAME}</td>" in page

    def test_filters(self, operator: Client) -> None:
        old = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
        wanted = park(channel=STEP, reason="smtplib.SMTPException", attempts=3, failed_at=old)
        other = park(attempts=10)
        for parameters in (
            {"channel": STEP},
            {"reason": "smtplib.SMTPException"},
            {"until": "2026-02-01T00:00"},
            {"since": "2026-01-30T00:00", "until": "2026-02-01T00:00:00+01:00"},
            {"attempts": "2-4"},
        ):
            assert listed(operator, **parameters) == [wanted.pk], parameters
        assert listed(operator, since="1h") == [other.pk]
        assert listed(operator, attempts="10-") == [other.pk]
        assert listed(operator, channel=STEP, attempts="1") == []
        assert listed(operator, reason="") == [other.pk]

    def test_filters_of_failures_do_not_narrow_other_lists(self, operator: Client) -> None:
        row = store()
        assert listed(operator, show="ready", reason="ValueError", since="1h") == [row.pk]
        page = text(operator.get(MESSAGES, {"show": "ready"}))
        assert "reason=" not in page
        assert "attempts=" not in page

    @pytest.mark.parametrize("state", ["parked", "ready"])
    def test_an_id_is_found_in_any_state(self, operator: Client, state: str) -> None:
        row = {"parked": park, "ready": store}[state]()
        park()
        assert listed(operator, q=str(row.pk)) == [row.pk]
        assert listed(operator, q=f"#{row.pk} ", show="waiting") == [row.pk]

    @pytest.mark.parametrize("words", ["ValueError", "9" * 30, "²"])
    def test_nothing_but_ids_is_searched(self, operator: Client, words: str) -> None:
        park(last_error=TRACEBACK)
        assert listed(operator, q=words) == []

    @pytest.mark.parametrize(
        "parameters",
        [
            {"payload__to__startswith": "a"},
            {"last_error__contains": "a"},
            {"key": "a"},
            {"id__gt": "0"},
        ],
    )
    def test_other_lookups_are_refused(self, operator: Client, parameters: Any) -> None:
        """They would tell letter by letter what nobody may see."""
        response = operator.get(MESSAGES, parameters)
        assert response.status_code == 400

    @pytest.mark.parametrize(
        "parameters",
        [{"show": "x"}, {"since": "x"}, {"until": "2026-02-31"}, {"attempts": "x"}, {"p": "99"}],
    )
    def test_an_invalid_address_leads_back_to_the_list(
        self, operator: Client, parameters: dict[str, str]
    ) -> None:
        response = operator.get(MESSAGES, parameters)
        assert (response.status_code, response.headers["Location"]) == (302, f"{MESSAGES}?e=1")


class TestWhatIsShown:
    def test_a_failure_is_shown_with_its_reason_its_time_and_its_next_try(
        self, operator: Client
    ) -> None:
        retrying(available_at=timezone.now() + HOUR + datetime.timedelta(seconds=30))
        page = text(operator.get(MESSAGES))
        for words in ("ValueError", "0\xa0minutes ago", "3 of 10", "in 1\xa0hour", "no such thing"):
            assert words in page, words
        assert "Traceback" not in page

    def test_an_onlooker_sees_the_reason_and_not_the_error(self, onlooker: Client) -> None:
        retrying(key="secret key")
        page = text(onlooker.get(MESSAGES))
        assert "ValueError" in page
        assert "no such thing" not in page
        assert "secret" not in page

    def test_nobody_else_sees_the_list(self, client_of: Any) -> None:
        assert client_of("replay").get(MESSAGES).status_code == 403

    def test_pages_and_an_end_of_counting(
        self, operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selection, "MOST", 250)
        monkeypatch.setattr("pgpubsub_sql.admin.listing.MOST", 250)
        Notification.objects.bulk_create(
            Notification(channel=NAME, payload={}, available_at=None) for _ in range(251)
        )
        ids = list(Notification.objects.values_list("pk", flat=True))
        assert listed(operator) == ids[:100]
        assert listed(operator, p=3) == ids[200:250]
        assert "250+ messages" in text(operator.get(MESSAGES))
        ids.pop()
        Notification.objects.filter(pk__gt=ids[-1]).delete()
        assert re.search(r"\b250 messages", text(operator.get(MESSAGES)))

    def test_nothing_offers_all_pages_at_once(self, operator: Client) -> None:
        for number in range(101):
            park(number)
        page = text(operator.get(MESSAGES))
        assert "Select all 101" not in page
        assert "Show all" not in page
        assert "?o=" not in page
        assert len(listed(operator, all="", o="-1")) == 100


def test_a_page_that_takes_too_long_is_given_up(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgpubsub_sql.time_limit.LIMIT_MILLISECONDS", 10)
    monkeypatch.setattr("pgpubsub_sql.admin.filters.stored_channels", lambda using: sleep())
    response = operator.get(MESSAGES)
    assert response.status_code == 503
    assert "Narrow it by a filter" in response.content.decode()


def sleep() -> list[str]:
    sql("SELECT pg_sleep(60)")
    return []


def test_the_address_of_a_selection_is_read_as_it_was_written(db: None) -> None:
    moment = timezone.now()
    one = selection.Selection(
        show=selection.Shown.PARKED, channel="a b&c", reason="", since=moment, attempts="1"
    )
    assert selection.Selection.read(one.parameters()) == one
