"""The pictures that the documentation shows: ``make screenshots``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.browser.messages import outage
from tests.conftest import ROOT

PICTURES = ROOT / "docs" / "_static" / "admin"


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
