"""django-tasks-db."""

from __future__ import annotations

import logging

from benchmarks import project

project.configure(
    "django_tasks",
    "django_tasks_db",
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
)
logging.getLogger("django_tasks_db").setLevel(logging.CRITICAL)

from django.db import transaction  # noqa: E402
from django_tasks_db.management.commands.db_worker import Worker  # noqa: E402
from django_tasks_db.models import DBTaskResult  # noqa: E402

from benchmarks.programs import tasks  # noqa: E402
from benchmarks.programs.program import Program, main  # noqa: E402


class DjangoTasksDb(Program):
    """Runs its worker in batch mode."""

    def set_up(self) -> None:
        project.migrate()

    def store(self, workload: str, count: int) -> None:
        DBTaskResult.objects.all().delete()
        with transaction.atomic():
            for number in range(1, count + 1):
                tasks.handle.enqueue(number, f"name {number}")

    def handle_stored(self, workload: str) -> None:
        Worker(
            queue_names=["default"],
            interval=0,
            batch=True,
            backend_name="default",
            startup_delay=False,
            max_tasks=None,
            worker_id="benchmark",
            excluded_queue_names=[],
        ).run()

    def left(self, workload: str) -> int:
        return DBTaskResult.objects.ready().count()


if __name__ == "__main__":
    main(DjangoTasksDb)
