"""``manage.py demo_site``: the admin of the example, with live traffic."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from example.demo.interruption import Interruption, InterruptionError
from example.demo.listening import MANAGE, PATIENCE_SECONDS, Listening, ListeningError
from example.demo.server import server
from example.news import traffic
from pgpubsub_sql.errors import ServerError

STEP_SECONDS = 0.5
"""Time between two steps of the traffic."""
USER = "admin"


class Command(BaseCommand):
    """Serve the admin of the example until Ctrl-C."""

    help = (
        "Serve the admin of the example, with live traffic, a listener that fails and one that is "
        "slow, on a PostgreSQL of its own. Ctrl-C stops it, and leaves neither a process nor a "
        "file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what may be asked for."""
        parser.add_argument("--port", type=int, default=0, help="Port (default: a free one).")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until somebody asks to stop."""
        with Interruption() as interruption:
            try:
                self._serve(options["port"] or free_port(), interruption)
            except InterruptionError:
                pass
            except (ListeningError, ServerError) as error:
                # Ctrl-C also ends a process that has not left our group yet, and shows first.
                if not interruption.noted:
                    raise CommandError(str(error)) from error
            self.stdout.write("Everything is stopped and removed.")

    def _serve(self, port: int, interruption: Interruption) -> None:
        with server() as _address, contextlib.closing(connection):
            interruption.check()
            call_command("migrate", verbosity=0)
            password = secrets.token_urlsafe(9)
            get_user_model().objects.create_superuser(USER, password=password)
            interruption.check()
            with Listening(processes=2) as listening, site(port) as process:
                self.stdout.write(
                    f"The admin is at http://127.0.0.1:{port}/admin/pgpubsub_sql/channel/\n"
                    f"Log in as {USER} with the password {password}\n"
                    "Authors come and get mail, which fails for example.net; each digest takes "
                    "five seconds.\nCtrl-C stops it."
                )
                self.stdout.flush()
                for _step in traffic.steps():
                    interruption.check()
                    listening.workers()
                    listening.lines.clear()
                    if process.poll() is not None:
                        raise CommandError(f"The site has ended with status {process.poll()}.")
                    time.sleep(STEP_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens to."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def site(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the pages, until the end of the ``with`` block."""
    command = [sys.executable, str(MANAGE), "runserver", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--noreload", "--insecure", "--skip-checks"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ,
        process_group=0,  # Ctrl-C is for the command, which then ends this process
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
