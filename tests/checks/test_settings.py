"""E101 and W101: settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import checks as django_checks  # noqa: F401 - named as a filter below

from tests.checks.support import found, report

pytestmark = pytest.mark.usefixtures("blank")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT", "False", "must be True or False, not 'False'"),
        ("PGPUBSUB_PASS_CONTEXT_TO_LISTENERS", None, "must be True or False, not None"),
        ("PGPUBSUB_NOTIFY", "no", "must be True or False, not 'no'"),
        ("PGPUBSUB_LISTENER_FILTER", "no.where", "No module named 'no'"),
        ("PGPUBSUB_LISTENER_FILTER", f"{__name__}.django_checks", "not callable"),
    ],
)
def test_e101_reports_an_invalid_setting(
    settings: Any, name: str, value: object, words: str
) -> None:
    setattr(settings, name, value)
    message = report("E101")
    assert name in message
    assert words in message


def test_e101_accepts_valid_settings(settings: Any) -> None:
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = True
    settings.PGPUBSUB_PASS_CONTEXT_TO_LISTENERS = True
    settings.PGPUBSUB_LISTENER_FILTER = "tests.test_filters.OfTenantSeven"
    assert found() == []


def test_w101_reports_a_context_that_outlives_its_transaction(settings: Any) -> None:
    """P23"""
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False
    message = report("W101")
    assert "leaks into the next request" in message
    assert "Use notification_context()" in message
