"""W203: what ephemeral trigger channels let every role read."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps.registry import Apps
from django.db import models

import pgpubsub_sql
from pgpubsub_sql.checks import exposure
from tests.checks.support import trigger_channel

pytestmark = pytest.mark.usefixtures("blank")


class Account(models.Model):
    login = models.TextField()
    api_key = models.TextField()
    first = models.CharField(max_length=9)
    last = models.CharField(max_length=9)
    street = models.CharField(max_length=9)
    kind = models.CharField(max_length=1, choices={"a": "a"})

    class Meta:
        app_label = "blog"
        apps = Apps()


def exposed(**attributes: Any) -> str:
    channel = trigger_channel(**{"model": Account, **attributes})
    pgpubsub_sql.post_save_listener(channel)(lambda **fields: None)
    problems = exposure.check_exposure()
    assert all(problem.id == "pgpubsub_sql.W203" for problem in problems)
    return " ".join(f"{problem.msg} {problem.hint}" for problem in problems)


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        ({}, "the fields api_key, which look like secrets. "),
        ({"columns": ("first", "api_key")}, "the fields api_key, which look like secrets. "),
        ({"exclude": "api_key"}, None),
        ({"model": "auth.User"}, "the fields password, which look like secrets. "),
    ],
)
def test_w203_reports_secrets_that_every_role_can_read(
    attributes: dict[str, Any], fields: str | None
) -> None:
    """F65: any role that may connect can listen to an ephemeral channel."""
    said = exposed(**attributes)
    assert (fields or "") in said
    assert bool(said) == bool(fields)
    assert not fields or "example.blog.channels.Watch is ephemeral, so any role that can" in said


def test_w203_reports_many_text_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """F65."""
    monkeypatch.setattr(exposure, "MANY_TEXTS", 4)
    assert "many text fields: login, first, last, street. Leave" in exposed(exclude="api_key")


@pytest.mark.parametrize(
    "attributes",
    [{"lock_notifications": True}, {"columns": ()}, {"columns": ("login", "first", "kind")}],
)
def test_w203_accepts_durable_channels_and_few_columns(attributes: dict[str, Any]) -> None:
    """F65: durable, or little of it travels."""
    assert not exposed(**attributes)


@pytest.mark.parametrize("attributes", [{"columns": "no such"}, {"model": "no.Such"}, {"model": 1}])
def test_w203_leaves_other_problems_to_other_checks(attributes: dict[str, Any]) -> None:
    assert not exposed(**attributes)
