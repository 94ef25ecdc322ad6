"""Whether this package is an installed app, without which no channels or listeners are found."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core import checks

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.errors import NotReady

APP = "pgpubsub_sql"
PREDECESSOR = "pgpubsub"
"""The app of django-pgpubsub, and its label, which the one of ``pgpubsub_sql.compat`` has, too."""
_MISSING = f'"{APP}" is not in INSTALLED_APPS, so no trigger is installed and nobody listens.'
_REMEDY = f'Add "{APP}" to INSTALLED_APPS. Then run: python manage.py migrate'


@checks.register(APP)  # here, because the app's own ready() does not run if it is not installed
def check_installed(**kwargs: Any) -> list[checks.CheckMessage]:
    """E102: is this package an installed app, where a channel is declared?"""
    if _is_missing() and declared_channels():
        return [checks.Error(_MISSING, hint=_REMEDY, id="pgpubsub_sql.E102")]
    return []


def require_installed() -> None:
    """Raise :class:`NotReady` if this package is not an installed app."""
    if _is_missing():
        raise NotReady(f"{_MISSING} {_REMEDY}")


def is_predecessor_installed() -> bool:
    """Return whether django-pgpubsub itself is an installed app."""
    return apps.is_installed(PREDECESSOR)


def _is_missing() -> bool:
    return apps.apps_ready and not apps.is_installed(APP)
