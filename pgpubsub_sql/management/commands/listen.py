"""``manage.py listen``: run the worker."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import sys
from argparse import ArgumentTypeError, BooleanOptionalAction
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from pgpubsub_sql.channels import (
    BaseChannel,
    find_channel,
    relayed_channels,
    select_channels,
)
from pgpubsub_sql.django_internals import is_called_from_command_line
from pgpubsub_sql.errors import PubSubError
from pgpubsub_sql.installed import is_predecessor_installed
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.logs import is_written
from pgpubsub_sql.management.base import (
    DatabaseCommand,
    add_database,
    positive,
    readable_errors,
)
from pgpubsub_sql.management.lanes import select_lanes
from pgpubsub_sql.management.reloading import Reloader, follow_reloader
from pgpubsub_sql.management.summary import log_summary
from pgpubsub_sql.migrations_ops.audit import Audit, audit
from pgpubsub_sql.relay.receiver import received_channels
from pgpubsub_sql.relay.running import run
from pgpubsub_sql.relay.settings import relay_settings
from pgpubsub_sql.sql.privileges import Role, missing_for
from pgpubsub_sql.sql.readiness import check_role, check_workable, place, search_path
from pgpubsub_sql.worker.health import Answer, Endpoint, Slow, Text
from pgpubsub_sql.worker.outages import await_database
from pgpubsub_sql.worker.processes import ExitStatus, WorkerOptions, work
from pgpubsub_sql.worker.supervisor import STARTERS, Supervisor

logger = logging.getLogger("pgpubsub_sql.worker")

DESCRIPTION = """\
Run a worker: listen to channels and call their listeners, until SIGTERM or Ctrl-C.

Without a worker no listener is called, so keep one running beside the web server. Messages of
durable channels (lock_notifications = True) are stored, and each is handled by one worker, even
if it was sent while none was running. Messages of ephemeral channels are handled by every
process that listens when they are sent.

  manage.py listen                                 every channel that has a listener
  manage.py listen --processes 4                   four worker processes
  manage.py listen --channels blog.AuthorChannel   one channel
  manage.py listen --exclude blog.PostReads        every channel but one
  manage.py listen --subscriptions mail            what is stored for one subscription
  manage.py listen --drain                         handle what is stored, then exit
  manage.py listen --health-port 8080              answer /livez and /readyz
  manage.py listen --relay                         publish to other databases, and receive

A channel is named as in PostgreSQL (blog.AuthorChannel) or by its module path
(blog.channels.AuthorChannel); a base class selects its subclasses. A database that is down or not
migrated yet is waited for. The first signal lets the
message in flight finish; a second one, at least a second later, aborts. If DEBUG is True, it starts
anew when a file changes.
"""


BOTH = (
    "django-pgpubsub is installed, too. This worker serves only channels of pgpubsub_sql. Start "
    "one of django-pgpubsub with settings whose INSTALLED_APPS name it before pgpubsub_sql."
)

_LEVELS = {0: "warning", 2: "debug", 3: "debug"}
"""Log level for each ``--verbosity`` but 1, Django's default."""


_REPLACES = {"--max-notifications", "--max-memory"}
_SENSELESS = {
    "worker": _REPLACES | {"--health-port", "--shutdown-timeout", "--reload"},
    "drain": _REPLACES | {"--reload"},
    "relay": _REPLACES
    | {"--health-port", "--shutdown-timeout", "--reload", "--drain"}
    | {"--subscriptions", "--exclude-subscriptions"},
}
_WHY = {
    "worker": "has no supervisor, which these options are for",
    "drain": "ends by itself, and nothing replaces what has ended",
    "relay": "publishes and receives in this process alone, and calls no listener",
}


def _given(options: dict[str, Any]) -> set[str]:
    """Return which of the options that have no default are given, except ``--no-…``."""
    return {
        f"--{name.replace('_', '-')}"
        for name, one in options.items()
        if one is not None and one is not False and one != []
    }


def port(value: str) -> int:
    """Parse the number of a TCP port; 0 stands for any that is free."""
    if not value.isdecimal() or int(value) > 65535:
        raise ArgumentTypeError(f"{value!r} is not a port, a number up to 65535.")
    return int(value)


def _metrics(options: WorkerOptions) -> Slow | None:
    """Return the answer for ``/metrics``; None without prometheus_client."""
    if find_spec("prometheus_client") is None:
        return None
    exposition: Any = None

    def answer() -> Answer:
        nonlocal exposition
        if exposition is None:
            # Here, so that nobody imports prometheus_client who does not ask for metrics.
            from pgpubsub_sql.prometheus.exposition import Exposition

            exposition = Exposition(options.database, options.search_path)
        return HTTPStatus.OK, Text(exposition.text(), exposition.content_type)

    return Slow(answer)


class Command(DatabaseCommand):
    """Run the worker."""

    help = DESCRIPTION

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of the worker."""
        parser.add_argument(
            "--channels", nargs="+", metavar="CHANNEL", help="Channels to listen to (default: all)."
        )
        parser.add_argument(
            "--exclude", nargs="+", metavar="CHANNEL", default=[], help="Channels to leave out."
        )
        parser.add_argument(
            "--subscriptions",
            nargs="+",
            metavar="NAME",
            help="Subscriptions of durable channels to handle; '' for listeners without one "
            "(default: all).",
        )
        parser.add_argument(
            "--exclude-subscriptions",
            nargs="+",
            metavar="NAME",
            default=[],
            help="Subscriptions to leave out.",
        )
        parser.add_argument(
            "--processes", type=positive, default=1, metavar="N", help="Worker processes (1)."
        )
        parser.add_argument(
            "--health-port",
            type=port,
            metavar="PORT",
            help="Answer health checks at this port, /livez and /readyz, and /metrics. 0 takes a "
            "free one.",
        )
        parser.add_argument(
            "--health-host",
            default="127.0.0.1",
            metavar="HOST",
            help="Address for --health-port (127.0.0.1); 0.0.0.0 in a container.",
        )
        add_database(parser, "Alias of the database to listen on (default: default).")
        parser.add_argument(
            "--drain",
            action="store_true",
            help="Handle the stored messages that are ready, then exit instead of listening.",
        )
        parser.add_argument(
            "--relay",
            action="store_true",
            help="Publish to other databases and receive from them, instead of listening.",
        )
        parser.add_argument(
            "--reload",
            action=BooleanOptionalAction,
            help="Start anew with the new code when a file changes, once the messages in flight "
            "are finished (default: if DEBUG is True, but not with --worker or --drain).",
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
            help="How worker processes start (default: spawn).",
        )
        parser.add_argument(
            "--no-restart-on-failure",
            action="store_true",
            help="Do not replace a worker process that dies.",
        )
        parser.add_argument(
            "--recover",
            action="store_true",
            help="No effect: stored messages are always handled. Kept for django-pgpubsub users.",
        )
        parser.add_argument(
            "--loglevel",
            type=str.lower,
            choices=("debug", "info", "warning", "error", "critical"),
            help="Lowest level to log (default: info, or as LOGGING in the settings says). -v 2 "
            "means debug, which logs each handled message; -v 0 means warning.",
        )
        parser.add_argument(
            "--max-notifications",
            type=positive,
            metavar="N",
            help="Replace a worker process that has handled this many messages.",
        )
        parser.add_argument(
            "--max-memory",
            type=positive,
            metavar="MB",
            help="Replace a worker process that uses more memory, once no message is in flight.",
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=positive,
            metavar="SECONDS",
            help="Kill workers that have not finished so long after SIGTERM (default: wait).",
        )
        lines = parser.add_mutually_exclusive_group()
        lines.add_argument(
            "--logformat",
            default=WorkerOptions.logformat,
            metavar="FORMAT",
            help="A logging format string.",
        )
        lines.add_argument("--json-logs", action="store_true", help="Log one JSON object per line.")
        parser.add_argument(
            "--name",
            default="",
            help="Name of the workers in the log and in pg_stat_activity (default: listen).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the options and the database, then work."""
        for word in ("worker", "relay"):
            if options[word] and options["processes"] > 1:
                raise CommandError(f"--{word} runs one process: leave out --processes.")
        for word in _SENSELESS:
            if options[word] and (refused := _SENSELESS[word] & _given(options)):
                raise CommandError(
                    f"--{word} {_WHY[word]}: leave out {', '.join(sorted(refused))}."
                )
        worker_options = self._worker_options(options)
        multiprocessing.current_process().name = worker_options.process_name()
        worker_options.configure_logging()
        if options["relay"]:
            with readable_errors(worker_options.database):
                self._relay(worker_options)
            return
        if not follow_reloader() and self._reloads(options):
            sys.exit(Reloader().run())
        with self._endpoint(options) as endpoint:
            with readable_errors(worker_options.database):
                prepared = self._prepared(worker_options, endpoint)
            if prepared:
                self._run(prepared, options, endpoint)

    def _relay(self, worker_options: WorkerOptions) -> None:
        """Publish and receive until it is stopped."""
        using = worker_options.database
        channels = [find_channel(name) for name in worker_options.channels]
        try:
            given = relay_settings()
            if not set(channels).isdisjoint(relayed_channels()):
                given.publisher()
            if not set(channels).isdisjoint(received_channels()):
                given.senders()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error

        def prepare() -> bool:
            check_role(connections[using], Role.RECEIVER)
            return True

        if await_database(using, prepare, None):
            run(channels, given, using=using, name=worker_options.name)

    def _reloads(self, options: dict[str, Any]) -> bool:
        if options["reload"] is not None:
            return bool(options["reload"])
        is_alone = options["worker"] or options["drain"]
        return settings.DEBUG and is_called_from_command_line(self) and not is_alone

    def _endpoint(self, options: dict[str, Any]) -> AbstractContextManager[Endpoint | None]:
        host, port = options["health_host"], options["health_port"]
        if port is None:
            return nullcontext()
        try:
            return Endpoint(host, port)
        except OSError as error:
            raise CommandError(
                f"Health checks cannot be answered at {host}, port {port}: {error}. Choose another "
                "--health-port, or an address of this machine as --health-host."
            ) from error

    def _prepared(
        self, worker_options: WorkerOptions, endpoint: Endpoint | None
    ) -> WorkerOptions | None:
        """Return the options of the workers, once they can work; None if it has been stopped."""
        using = worker_options.database

        def prepare() -> WorkerOptions:
            here = connections[using]
            prepared = dataclasses.replace(
                worker_options, place=place(here), search_path=search_path(here)
            )
            log_summary(prepared, self._warn_of_drift(prepared))
            return prepared

        if worker_options.drain:
            check_workable(connections[using])
            return prepare()
        return await_database(using, prepare, endpoint)

    def _worker_options(self, options: dict[str, Any]) -> WorkerOptions:
        channels, lanes = self._channels(options), []
        if not options["relay"]:
            lanes = select_lanes(
                channels, options["subscriptions"], options["exclude_subscriptions"]
            )
        names = [lane.channel for lane in lanes] or [one.postgres_name() for one in channels]
        return WorkerOptions(
            channels=tuple(dict.fromkeys(names)),
            lanes=tuple(lanes),
            database=options["database"],
            drain=options["drain"],
            loglevel=options["loglevel"] or _LEVELS.get(options["verbosity"]),
            logformat=options["logformat"],
            json_logs=options["json_logs"],
            name=options["name"],
            max_notifications=options["max_notifications"],
            max_memory=options["max_memory"],
        )

    def _run(
        self, worker_options: WorkerOptions, options: dict[str, Any], endpoint: Endpoint | None
    ) -> None:
        if worker_options.loglevel is None:
            self._announce(worker_options)
        is_alone = options["worker"]
        if is_alone and os.getpid() != 1:  # process 1 has to reap orphans: a supervisor does
            self._work(worker_options)
            return
        supervisor = Supervisor(
            worker_options,
            processes=options["processes"],
            start_method="fork" if is_alone else options["worker_start_method"],
            restart=not (is_alone or options["no_restart_on_failure"]),
            shutdown_timeout=options["shutdown_timeout"],
            endpoint=endpoint,
            metrics=_metrics(worker_options),
        )
        sys.exit(supervisor.run())

    def _warn_of_drift(self, worker_options: WorkerOptions) -> Audit | None:
        """Warn of channels whose triggers are not as they should be, and say what to run.

        Return what is installed and what should be; None for a role that may not see that.
        """
        if is_predecessor_installed():
            logger.warning(BOTH)
        connection = connections[worker_options.database]
        if missing := missing_for(connection, Role.VERIFIER):
            logger.debug("What is installed cannot be compared. %s.", missing.text)
            return None
        found = audit(connection)
        for problem in found.all_problems():
            if problem.channel in worker_options.channels or not problem.channel:
                logger.warning("%s %s", problem.sentence, problem.remedy)
        return found

    def _announce(self, worker_options: WorkerOptions) -> None:
        """Say that it starts, if the project's LOGGING hides the log line that says so."""
        if not is_written(logging.getLogger("pgpubsub_sql.worker"), logging.INFO):
            self.stdout.write(
                f"Starting to listen to {', '.join(worker_options.channels)} "
                f"({worker_options.place}). LOGGING hides what workers log at level INFO; "
                "--loglevel info shows it."
            )
            self.stdout.flush()

    def _work(self, worker_options: WorkerOptions) -> None:
        try:
            status = work(worker_options)
        except PubSubError as error:
            raise CommandError(f"The worker has stopped: {error}") from error
        if status == ExitStatus.MESSAGES_FAILED:
            raise CommandError("Messages failed. The log above says which, and why.")

    def _channels(self, options: dict[str, Any]) -> list[type[BaseChannel]]:
        """Return the channels to listen to."""
        included, excluded = options["channels"], options["exclude"]
        try:
            relayed = dict.fromkeys([*relayed_channels(), *received_channels()])
            channels = list(relayed) if options["relay"] else registry.channels()
            if included is not None:
                channels = select_channels(included, channels)
            left_out = select_channels(excluded, channels) if excluded else []
        except PubSubError as error:
            raise CommandError(str(error)) from error
        found = [channel for channel in channels if channel not in left_out]
        if not found and options["relay"]:
            raise CommandError(
                "There is nothing to publish or receive: none of these channels has relay or "
                'received_from. Set relay = True or received_from = "nats" on a durable channel.'
            )
        if not found:
            raise CommandError(
                "There is nothing to listen to: these channels have no listener. "
                "Write listeners in the listeners.py of an installed app."
            )
        return found
