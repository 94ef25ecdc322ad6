"""The task of django-tasks-db, which looks it up by its path."""

from __future__ import annotations

from django_tasks import task

from benchmarks.programs.program import LEDGER


@task()
def handle(number: int, name: str) -> None:
    LEDGER.add(number)
