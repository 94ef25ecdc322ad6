"""``manage.py dumpdata``, without stored messages."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import dumpdata

from pgpubsub_sql.installed import APP


class Command(dumpdata.Command):
    """Leave stored messages out of the dump, unless apps are named.

    Loading rows fires the triggers of their table, which send these messages again; with the stored
    ones each would arrive twice.
    """

    def handle(self, *app_labels: str, **options: Any) -> str | None:
        """Exclude this app, then dump."""
        if not app_labels:
            options["exclude"] = [*options["exclude"], APP]
        result: str | None = super().handle(*app_labels, **options)
        return result
