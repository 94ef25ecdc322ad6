"""``manage.py dumpdata``, as Django has it."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import dumpdata

from pgpubsub_sql.installed import APP


class Command(dumpdata.Command):
    """Leaves out the messages that wait, unless apps are named.

    The rows that they are about are told of when they are loaded, and messages would come twice.
    """

    def handle(self, *app_labels: str, **options: Any) -> str | None:
        """Dump what is asked for."""
        if not app_labels:
            options["exclude"] = [*options["exclude"], APP]
        result: str | None = super().handle(*app_labels, **options)
        return result
