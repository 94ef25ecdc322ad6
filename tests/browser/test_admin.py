"""The admin in a real browser: what a reader of its HTML alone would not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgpubsub_sql.inspection import paused_lanes
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from tests.browser.conftest import ALL, CHANNELS, MESSAGES
from tests.browser.messages import outage
from tests.ledger import sql
from tests.stored import NAME

TELEPHONE = {"width": 390, "height": 844}
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without JavaScript": {"java_script_enabled": False},
    "on a telephone": {"viewport": TELEPHONE},
    "in the dark": {"color_scheme": "dark"},
    "unfold": {"theme": "unfold"},
    "jazzmin": {"theme": "jazzmin"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_page_of_channels_leads_to_what_failed(visit: Callable[..., Any], way: str) -> None:
    """From the index, by links alone."""
    outage(20)
    page = visit(**WAYS[way])
    page.goto("/admin/pgpubsub_sql/")
    page.locator(
        f"#content a[href='{CHANNELS}']:visible, main a[href='{CHANNELS}']:visible"
    ).first.click()
    page.wait_for_url(f"**{CHANNELS}")
    shown = page.locator(".pgpubsub-channels").inner_text()
    assert "No worker listens on this database." in shown
    row = page.locator(".pgpubsub-table tr", has_text=NAME)
    assert row.locator("td").nth(0).inner_text() == "20"
    row.locator("a").first.click()
    page.wait_for_url(f"**{MESSAGES}?**")
    assert page.locator("#result_list tbody tr").count() == 20
    if "theme" not in WAYS[way]:
        assert page.complaints == []


@pytest.mark.parametrize("way", WAYS)
def test_a_channel_is_paused_and_resumed(visit: Callable[..., Any], way: str) -> None:
    """By its button."""
    page = visit(**WAYS[way])
    page.goto(CHANNELS)
    for button, note in (("Pause", "paused for"), ("Resume", None)):
        row = page.locator(".pgpubsub-table tr", has_text=NAME)
        row.get_by_role("button", name=button).click()
        page.wait_for_url(f"**{CHANNELS}")
        assert f"{button}d: {NAME}." in page.locator("body").inner_text()
        assert bool(note) == ("paused for" in row.inner_text())
        assert bool(note) == (Lane(NAME) in paused_lanes("default"))
    if "theme" not in WAYS[way]:
        assert page.complaints == []


@pytest.mark.parametrize("way", WAYS)
def test_an_operator_repairs_an_outage(visit: Callable[..., Any], way: str) -> None:
    """List, filter, a message, and replay of all that match, by links and buttons alone."""
    outage(20)
    page = visit(**WAYS[way])
    assert page.locator("#result_list tbody tr").count() == 21
    page.goto(f"{MESSAGES}?reason=smtplib.SMTPServerDisconnected")
    assert page.locator("#result_list tbody tr").count() == 20
    page.locator("#result_list tbody a[href*='/change/']").first.click()
    page.wait_for_url("**/change/**")
    assert "Connection unexpectedly closed" in page.content()
    assert page.locator("button[formaction$='/chosen/replay/']").is_visible()
    page.go_back()
    page.locator("a[href*='/all/replay/']").click()
    assert "20 messages are concerned" in page.locator("body").inner_text()
    page.locator(".pgpubsub-confirm button").click()
    page.wait_for_url(f"**{MESSAGES}")
    assert "20 messages were replayed" in page.locator("body").inner_text()
    assert Notification.objects.ready().count() == 20
    assert Notification.objects.failed().count() == 1
    if "theme" not in WAYS[way]:
        assert page.complaints == []


def test_fifty_thousand_are_replayed_with_their_number_confirmed(
    visit: Callable[..., Any],
) -> None:
    sql(
        "INSERT INTO pgpubsub_sql_notification"
        " (channel, payload, available_at, attempts, reason, failed_at)"
        " SELECT %s, '{}', NULL, 10, 'TimeoutError', clock_timestamp()"
        " FROM generate_series(1, 50000)",
        NAME,
    )
    page = visit()
    assert "10,000+ messages" in page.locator("body").inner_text()
    page.locator("a[href*='/all/replay/']").click()
    button = page.locator(".pgpubsub-confirm button")
    number = page.locator(".pgpubsub-number strong")
    assert number.inner_text() == "50000"
    button.click()
    while not page.url.endswith(MESSAGES):  # on a slow machine it asks whether to go on
        button.click()
    assert Notification.objects.ready().count() == 50_000


def test_chosen_messages_are_discarded_after_a_confirmation(visit: Callable[..., Any]) -> None:
    outage(5)
    page = visit()
    boxes = page.locator("input[name=_selected_action]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.locator("select[name=action]").select_option("discard")
    page.locator("button[name=index]").click()
    assert "2 messages are concerned" in page.locator("body").inner_text()
    assert Notification.objects.count() == 6
    page.locator(".pgpubsub-confirm button").click()
    page.wait_for_url(f"**{MESSAGES}")
    assert Notification.objects.count() == 4
    assert page.complaints == []


def test_without_permissions_there_is_nothing_to_press_and_no_payload(
    visit: Callable[..., Any],
) -> None:
    outage(5)
    page = visit(ALL[0])
    assert page.locator("a[href*='/all/']").count() == 0
    assert page.locator("select[name=action]").count() == 0
    page.locator("#result_list tbody a[href*='/change/']").first.click()
    page.wait_for_url("**/change/**")
    shown = page.locator("body").inner_text()
    assert "smtplib.SMTPServerDisconnected" in shown
    assert "Zoë" not in shown
    assert "unexpectedly" not in shown
    assert page.locator("button[formaction]").count() == 0


def test_times_are_chosen_in_a_form(visit: Callable[..., Any]) -> None:
    outage(5)
    page = visit(java_script_enabled=False)
    page.locator(".pgpubsub-between input[name=until]").fill("2026-01-31T10:00:00")
    page.locator(".pgpubsub-between button").click()
    assert "0 messages" in page.locator("body").inner_text()
    assert (
        page.locator(".pgpubsub-between input[name=until]")
        .input_value()
        .startswith("2026-01-31T10:00")
    )


def test_nothing_is_wider_than_a_telephone(visit: Callable[..., Any]) -> None:
    outage(2)
    page = visit(viewport=TELEPHONE)
    pages = [page.url, CHANNELS]
    pages.append(page.locator("#result_list tbody a[href*='/change/']").first.get_attribute("href"))
    pages.append(page.locator("a[href*='/all/discard/']").get_attribute("href"))
    for address in pages:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]


def test_text_is_readable_in_the_dark(visit: Callable[..., Any]) -> None:
    """Our blocks take the colours of the theme: light on dark."""
    outage(2)
    page = visit(color_scheme="dark")
    page.locator("#result_list tbody a[href*='/change/']").first.click()
    colour = page.locator(".pgpubsub-text").first.evaluate("one => getComputedStyle(one).color")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert brightness(colour) > 120 > 60 > brightness(background)
    page.goto(CHANNELS)
    colour = page.locator(".pgpubsub-table td").first.evaluate("one => getComputedStyle(one).color")
    assert brightness(colour) > 120


def brightness(colour: str) -> float:
    numbers = [float(one) for one in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    return sum(numbers) / 3


def test_it_speaks_german(visit: Callable[..., Any]) -> None:
    outage(2)
    page = visit(locale="de-DE")
    assert "Alle passenden neu ausführen" in page.content()
    page.locator("a[href*='/all/replay/']").click()
    assert "3 Nachrichten sind betroffen." in page.locator("body").inner_text()
    page.goto(CHANNELS)
    assert "lauscht kein Worker" in page.locator("body").inner_text()
    page.get_by_role("button", name="Anhalten").first.click()
    assert "Was Worker schon genommen haben" in page.locator("body").inner_text()
