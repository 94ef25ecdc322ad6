"""Django's command line, run again and again in one process: ``manage.py`` for the harness.

A server that has imported Django already, and forks for each version of a project. It reads where
the project is, ``{"root": "…", "environment": {…}}``, then one command a line, ``{"argv": […],
"answers": "y\\n"}``, and answers each with ``{"code": 0, "output": "…"}``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import socket
import socketserver
import sys
import traceback
from typing import Any

from django.core.management import ManagementUtility

from pgpubsub_sql.sql.templates import templates
from tests.migrations.watching import watch_every_migration

PRELOADED = (
    "django.core.mail",
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
    "django.core.management.commands.showmigrations",
    "django.db.backends.postgresql.base",
    "django.urls",
    "django.utils.log",
    "django.views.debug",
    "django.views.generic",
    "pgpubsub_sql.apps",
)
"""What every version would import: half of the time of its first command."""


class Terminal(io.StringIO):
    """Where somebody sits who answers."""

    def isatty(self) -> bool:
        """Whether somebody does."""
        return True


def execute(argv: list[str], answers: str) -> tuple[int, str]:
    """Run one command as ``manage.py`` would, and return its exit status and what it wrote."""
    output = io.StringIO()
    sys.stdin = Terminal(answers) if answers else io.StringIO()
    importlib.invalidate_caches()  # makemigrations has written modules meanwhile
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            ManagementUtility(["manage.py", *argv]).execute()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else bool(exit_.code)
        except Exception:  # noqa: BLE001 - as manage.py would
            traceback.print_exc()
            code = 1
    return code, output.getvalue()


class Version(socketserver.StreamRequestHandler):
    """The process of one version of a project."""

    def handle(self) -> None:
        """Serve until the other side has had enough."""
        version: dict[str, Any] = json.loads(self.rfile.readline())
        os.chdir(version["root"])
        os.environ.update(version["environment"])
        sys.path.insert(0, version["root"])
        for line in self.rfile:
            code, output = execute(**json.loads(line))
            self.wfile.write(json.dumps({"code": code, "output": output}).encode() + b"\n")


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """What forks, for as long as its parent lives."""

    max_children = 100

    def __init__(self, listening: socket.socket) -> None:
        super().__init__("", Version, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self._parent = os.getppid()

    def service_actions(self) -> None:
        """Let go of versions that are done; end with the parent, however that ended."""
        super().service_actions()
        if os.getppid() != self._parent:
            sys.exit()


def preload() -> None:
    """Load what does not depend on a project, once for all versions."""
    for module in PRELOADED:
        importlib.import_module(module)
    for folder in ("helpers", "queries", "tables", "triggers"):
        templates(folder)


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # versions follow each other within a second
    preload()
    watch_every_migration()
    Server(socket.socket(fileno=int(sys.argv[1]))).serve_forever()
