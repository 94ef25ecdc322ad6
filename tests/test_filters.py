"""The condition of the project's own on what its workers take."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q

from pgpubsub_sql import ListenerFilterProvider, Notification, notification_context, notify
from pgpubsub_sql.filters import listener_filter
from tests.app.channels import Job
from tests.app.models import Item


class OfTenantSeven(ListenerFilterProvider):
    def get_filter(self) -> Q:
        return Q(payload__context__tenant=7) | Q(**{"payload__$context__tenant": 7})


class Unrelated:
    """As the predecessor takes it, too: what it can do counts, not where it comes from."""

    def get_filter(self) -> Q:
        return Q(channel="app.Job")


class Forgetful(ListenerFilterProvider):
    pass


class Demanding(Unrelated):
    def __init__(self, tenant: int) -> None: ...


def name(settings: Any, provider: object) -> None:
    settings.PGPUBSUB_LISTENER_FILTER = f"{__name__}.{provider}"


def test_without_a_setting_there_is_no_filter(settings: Any) -> None:
    assert listener_filter() is None
    settings.PGPUBSUB_LISTENER_FILTER = ""
    assert listener_filter() is None


@pytest.mark.django_db
def test_a_provider_may_filter_by_the_context(settings: Any) -> None:
    """As in the predecessor; on both kinds of channel."""
    for tenant in (7, 8):
        with notification_context({"tenant": tenant}):
            notify(Job, number=tenant)
            Item.objects.create(name=str(tenant))
    name(settings, "OfTenantSeven")
    told = Notification.objects.filter(listener_filter()).values_list("payload", flat=True)
    assert [p.get("number") or p["new"]["name"] for p in told] == [7, "7"]


def test_it_is_asked_anew_each_time(settings: Any) -> None:
    name(settings, "OfTenantSeven")
    assert listener_filter() == OfTenantSeven().get_filter()
    name(settings, "Unrelated")
    assert listener_filter() == Q(channel="app.Job")


@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        ("Nothing", 'does not define a "Nothing"'),
        ("nowhere.at.All", "No module named 'tests.test_filters.nowhere'"),
        ("Q", r"Q' has no get_filter\(\): derive it from pgpubsub_sql.ListenerFilterProvider"),
        ("pytest", "'module' object is not callable"),
        ("Demanding", "missing 1 required positional argument: 'tenant'"),
        ("Forgetful", r"Forgetful' returned None: have it return a Q over .* Notification"),
    ],
)
def test_an_invalid_provider_is_explained(settings: Any, provider: str, complaint: str) -> None:
    name(settings, provider)
    with pytest.raises(ImproperlyConfigured, match=rf"PGPUBSUB_LISTENER_FILTER.*{complaint}"):
        listener_filter()
