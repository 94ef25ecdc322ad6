"""Settings, read live from Django's, each a documented function."""

from __future__ import annotations

from django.conf import settings


def owner() -> str:
    """``PGPUBSUB_OWNER``: who the triggers in a shared database belong to.

    Written into the comment of every object we create, so that only a project's own
    objects are ever pruned. Default: the package that holds ``ROOT_URLCONF``.
    """
    explicit = getattr(settings, "PGPUBSUB_OWNER", None)
    root: str = getattr(settings, "ROOT_URLCONF", None) or "django"
    return str(explicit or root.partition(".")[0])
