"""The pictures that the documentation shows: ``make screenshots``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgpubsub_sql import notify
from pgpubsub_sql.inspection import long_calls
from pgpubsub_sql.sql.trigger import object_name
from tests.app.channels import ItemChannel, Job
from tests.browser.conftest import CHANNELS
from tests.browser.messages import outage
from tests.conftest import ROOT, Listen, eventually
from tests.ledger import listeners_wait, sql
from tests.stored import NAME

PICTURES = ROOT / "docs" / "_static" / "admin"
TRIGGER = object_name("pgpubsub_", ItemChannel.postgres_name(), "_after_insert")


def test_pictures(visit: Callable[..., Any]) -> None:
    outage(240)
    page = visit(viewport={"width": 1400, "height": 800})
    page.screenshot(path=PICTURES / "list.png")
    page.locator("#result_list tbody a").first.click()
    page.wait_for_url("**/change/**")
    page.screenshot(path=PICTURES / "message.png", full_page=True)
    page.go_back()
    page.locator(".pgpubsub-tools a").first.click()
    page.wait_for_url("**/all/**")
    page.screenshot(
        path=PICTURES / "replay.png", clip={"x": 0, "y": 0, "width": 1400, "height": 320}
    )


def test_picture_of_channels(visit: Callable[..., Any], listen: Callable[..., Listen]) -> None:
    """One listener takes long, and somebody has disabled a trigger."""
    page = visit(viewport={"width": 1400, "height": 800})
    outage(240)
    listen("--processes", "2", "--channels", NAME).ready(2)
    sql(f'ALTER TABLE app_item DISABLE TRIGGER "{TRIGGER}"')
    try:
        with listeners_wait():
            notify(Job(number=1, mood="wait"))
            eventually(lambda: long_calls("default"))
            page.goto(CHANNELS)
            page.screenshot(path=PICTURES / "channels.png", full_page=True)
    finally:
        sql("ALTER TABLE app_item ENABLE TRIGGER USER")
