"""``manage.py listen``: arguments in, a call, output out."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from pgpubsub_sql.channels import BaseChannel, select_channels
from pgpubsub_sql.errors import PubSubError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.logs import is_written
from pgpubsub_sql.management.databases import DatabaseCommand, add_database, reached
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.readiness import check_workable, place
from pgpubsub_sql.worker.processes import Ending, Plan, work
from pgpubsub_sql.worker.supervisor import STARTERS, Supervisor

logger = logging.getLogger("pgpubsub_sql.worker")

DESCRIPTION = """\
Listen to channels and call their listeners, until SIGTERM or Ctrl-C.

Durable channels (lock_notifications = True): each stored notification is handled by one
worker, also what was stored while none was running. Other channels: every process handles
every message that is sent while it listens.

  manage.py listen                                 everything that has a listener
  manage.py listen --processes 4                   four worker processes
  manage.py listen --channels blog.AuthorChannel   one channel
  manage.py listen --exclude blog.PostReads        all but one
  manage.py listen --drain                         what is stored, then exit

A channel is named as in PostgreSQL (blog.AuthorChannel) or by its module path
(blog.channels.AuthorChannel); a base class selects its subclasses. The first signal lets the
message in hand finish; a second one, at least a second later, aborts.
"""


_LEVELS = {0: "warning", 2: "debug", 3: "debug"}
"""Levels to log for a ``--verbosity`` other than Django's own."""


def positive(value: str) -> int:
    """Return *value* as a number of at least one."""
    if not value.isdecimal() or int(value) < 1:
        raise ArgumentTypeError(f"{value!r} is not a number of at least 1.")
    return int(value)


class Command(DatabaseCommand):
    """Run the worker."""

    help = DESCRIPTION

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what may be asked for."""
        parser.add_argument(
            "--channels", nargs="+", metavar="CHANNEL", help="Listen to these (default: all)."
        )
        parser.add_argument(
            "--exclude", nargs="+", metavar="CHANNEL", default=[], help="Leave these out."
        )
        parser.add_argument(
            "--processes", type=positive, default=1, metavar="N", help="Worker processes (1)."
        )
        add_database(parser, "Database to listen on.")
        parser.add_argument(
            "--drain",
            action="store_true",
            help="Handle what is stored and ready, then exit; do not listen.",
        )
        parser.add_argument(
            "--worker",
            action="store_true",
            help="Work in this process, without a supervisor that restarts it.",
        )
        parser.add_argument(
            "--worker-start-method",
            choices=tuple(STARTERS),
            default="spawn",
            help="How worker processes start (spawn).",
        )
        parser.add_argument(
            "--no-restart-on-failure",
            action="store_true",
            help="Do not replace a worker process that dies.",
        )
        parser.add_argument(
            "--recover",
            action="store_true",
            help="No effect: what is stored is always handled. django-pgpubsub has this option.",
        )
        parser.add_argument(
            "--loglevel",
            type=str.lower,
            choices=("debug", "info", "warning", "error", "critical"),
            help="Least severe records to log (info, or what LOGGING in the settings says). "
            "-v 2 is debug, which logs each message that was handled; -v 0 is warning.",
        )
        lines = parser.add_mutually_exclusive_group()
        lines.add_argument(
            "--logformat", default=Plan.logformat, metavar="FORMAT", help="As logging.Formatter."
        )
        lines.add_argument("--json-logs", action="store_true", help="Log one JSON object a line.")
        parser.add_argument(
            "--name",
            default="",
            help="What the workers are called in the log and in pg_stat_activity.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check what can be checked, then run."""
        if options["worker"] and options["processes"] > 1:
            raise CommandError("--worker runs one process: leave out --processes.")
        plan = Plan(
            channels=self._channels(options["channels"], options["exclude"]),
            database=options["database"],
            drain=options["drain"],
            loglevel=options["loglevel"] or _LEVELS.get(options["verbosity"]),
            logformat=options["logformat"],
            json_logs=options["json_logs"],
            name=options["name"],
        )
        multiprocessing.current_process().name = plan.process_name()
        plan.configure_logging()
        with reached(plan.database):
            connection = connections[plan.database]
            check_workable(connection)
            self._warn_of_drift(plan)
            plan = dataclasses.replace(plan, place=place(connection))
        if plan.loglevel is None:
            self._announce(plan)
        is_alone = options["worker"]
        if is_alone and os.getpid() != 1:  # which would have to bury orphans
            self._work(plan)
            return
        supervisor = Supervisor(
            plan,
            processes=options["processes"],
            start_method="fork" if is_alone else options["worker_start_method"],
            restart=not (is_alone or options["no_restart_on_failure"]),
        )
        sys.exit(supervisor.run())

    def _warn_of_drift(self, plan: Plan) -> None:
        """Say of which channels nothing, or something else, would be heard, and what to run."""
        connection = connections[plan.database]
        if missing := missing_for(connection, Role.VERIFIER):
            logger.debug("What is installed cannot be compared. %s.", missing.text)
            return
        for problem in audit(connection).problems():
            if problem.channel in plan.channels or not problem.channel:
                logger.warning("%s %s", problem.sentence, problem.remedy)

    def _announce(self, plan: Plan) -> None:
        """Say that it starts, where the project's LOGGING hides what the log says of it."""
        if not is_written(logging.getLogger("pgpubsub_sql.worker"), logging.INFO):
            self.stdout.write(
                f"Starting to listen to {', '.join(plan.channels)} ({plan.place}). LOGGING hides "
                "what workers log at level INFO; --loglevel info shows it."
            )
            self.stdout.flush()

    def _work(self, plan: Plan) -> None:
        try:
            ending = work(plan)
        except PubSubError as error:
            raise CommandError(f"The worker cannot work: {error}") from error
        if ending == Ending.MESSAGES_FAILED:
            raise CommandError("Messages failed; the log above tells which, and why.")

    def _channels(self, wanted: list[str] | None, excluded: list[str]) -> tuple[str, ...]:
        """Return the names of the channels to listen to."""
        try:
            channels: list[type[BaseChannel]] = registry.channels()
            if wanted is not None:
                channels = select_channels(wanted, channels)
            left_out = select_channels(excluded, channels) if excluded else []
        except PubSubError as error:
            raise CommandError(str(error)) from error
        chosen = tuple(channel.postgres_name() for channel in channels if channel not in left_out)
        if not chosen:
            raise CommandError(
                "There is nothing to listen to: these channels have no listener. "
                "Put listeners into the listeners.py of an installed app."
            )
        return chosen
