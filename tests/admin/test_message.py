"""The page of one message in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from pgpubsub_sql import notification_context
from pgpubsub_sql.models import Notification
from tests.admin.conftest import MESSAGES, text
from tests.app.models import Item
from tests.ledger import sql
from tests.stored import HOUR, NAME, park, retrying, store


def page(client: Client, row: Notification) -> str:
    return text(client.get(f"{MESSAGES}{row.pk}/change/"))


def test_everything_about_a_failed_message(operator: Client) -> None:
    """Why did an author get no mail?"""
    row = retrying(payload={"number": 7, "$context": {"user": "Zoë"}}, key="acme")
    found = page(operator, row)
    for words in (
        NAME,
        "Failed: it is tried again in",
        "3 of 10",
        "ValueError",
        "tests.app.listeners.do_job",
        "acme",
        "Zoë",
        "&quot;number&quot;: 7",
        "Traceback (most recent call last):",
        "0\xa0minutes ago",
    ):
        assert words in found, words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"available_at": None}, "Parked: it is not tried again until somebody replays it."),
        ({}, "Ready: the next free worker handles it."),
        ({"available_at": timezone.now() + 100 * HOUR}, "Delayed: it is handled in 4\xa0days"),
    ],
)
def test_every_state_is_explained(operator: Client, values: Any, words: str) -> None:
    assert words in page(operator, store(**values))


@pytest.mark.parametrize(
    ("channel", "payload", "words"),
    [
        ("app.Gone", {}, "None: no channel of this name is declared."),
        (NAME, {"nummer": 1}, "None: the payload cannot be read."),
        ("app.ItemChannel", {"op": "TRUNCATE"}, "None for after_truncate."),
    ],
)
def test_it_says_why_no_listener_handles_a_message(
    operator: Client, channel: str, payload: Any, words: str
) -> None:
    assert words in page(operator, store(channel=channel, payload=payload))


def test_the_listeners_of_the_event_are_shown(operator: Client) -> None:
    with notification_context({"user": 5}):
        Item.objects.create(name="one")
    found = page(operator, Notification.objects.get())
    assert "tests.app.listeners.item_inserted<br>tests.app.listeners.item_saved" in found


def test_a_long_payload_is_cut(operator: Client) -> None:
    """It is read nevertheless, up to a limit."""
    found = page(operator, store(payload={"number": 1, "mood": "x" * 100_000}))
    assert "The first 65536 of 100025 characters:" in found
    assert "x" * 65_000 in found
    assert "x" * 65_536 not in found
    assert "tests.app.listeners.do_job" in found
    found = page(operator, store(payload={"number": 1, "mood": "x" * 1_100_000}))
    assert "The payload is too long to be read here." in found


def test_what_python_cannot_read_is_shown_as_it_is(operator: Client) -> None:
    row = store()
    sql("UPDATE pgpubsub_sql_notification SET payload = %s", f'{{"number": {"7" * 5000}}}')
    assert "7" * 5000 in page(operator, row)


def test_an_onlooker_sees_nothing_that_was_sent(onlooker: Client) -> None:
    row = retrying(payload={"number": "secret", "$context": {"user": "secret"}}, key="secret")
    found = page(onlooker, row)
    assert "ValueError" in found
    assert "secret" not in found
    assert "no such thing" not in found
    assert "You may not see payload, key, context and error of messages." in found
    assert "formaction" not in found


def test_markup_is_escaped(operator: Client) -> None:
    row = park(last_error="<script>1</script>", payload={"number": "<script>2</script>"})
    assert "<script>1" not in page(operator, row)
    assert "<script>2" not in page(operator, row)
    assert "<script>1" not in text(operator.get(MESSAGES))


@pytest.mark.parametrize("pk", ["0", "x", "9" * 30, "²"])
def test_a_message_that_is_gone_leads_back(operator: Client, pk: str) -> None:
    response = operator.get(f"{MESSAGES}{pk}/change/")
    assert response.status_code == 302


@pytest.mark.parametrize("name", ["change", "delete"])
def test_django_itself_changes_and_deletes_nothing(client_of: Any, name: str) -> None:
    """A superuser neither: it would wait for what a worker is handling, and log row by row."""
    client, row = client_of(superuser=True), park()
    assert client.post(f"{MESSAGES}{row.pk}/{name}/", {"post": "yes"}).status_code == 403
    assert client.get(f"{MESSAGES}add/").status_code == 403
    assert "delete_selected" not in text(client.get(MESSAGES))
    assert Notification.objects.filter(pk=row.pk).exists()
