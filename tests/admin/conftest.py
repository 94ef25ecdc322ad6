"""Users of the admin, each with a client that is logged in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import translation

from pgpubsub_sql.models import Notification
from tests.app.channels import UserChannel

MESSAGES = "/admin/pgpubsub_sql/notification/"
CHANNELS = "/admin/pgpubsub_sql/channel/"


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    """A request leaves its language to its thread, which is that of all tests here."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare for each view what is installed."""
    monkeypatch.setattr("pgpubsub_sql.admin.databases.KNOWN_SECONDS", 0.0)


@pytest.fixture
def client_of(db: None) -> Callable[..., Client]:
    """Return a client of a user with these permissions of ours, or of a superuser."""

    def client(*permissions: str, superuser: bool = False) -> Client:
        user = User.objects.create(
            username=f"user{User.objects.count()}", is_staff=True, is_superuser=superuser
        )
        found = Permission.objects.filter(
            content_type__app_label="pgpubsub_sql", codename__in=permissions
        )
        assert len(found) == len(permissions)
        user.user_permissions.set(found)
        made = Client()
        made.force_login(user)
        Notification.objects.filter(channel=UserChannel.postgres_name()).delete()
        return made

    return client


@pytest.fixture
def operator(client_of: Callable[..., Client]) -> Client:
    """May do everything."""
    return client_of("view_notification", "view_payload", "replay", "discard")


@pytest.fixture
def onlooker(client_of: Callable[..., Client]) -> Client:
    """May see that messages failed, but not what was in them, and change nothing."""
    return client_of("view_notification")


def text(response: Any) -> str:
    assert response.status_code == 200, response
    return str(response.content.decode())
