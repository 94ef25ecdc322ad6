"""Worker processes: their options, how they are started, and what their exit status means."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from contextlib import closing
from multiprocessing.context import ForkProcess
from multiprocessing.spawn import get_executable
from typing import Any, Protocol

from django.conf import settings

from pgpubsub_sql.channels import BaseChannel, find_channel
from pgpubsub_sql.errors import NotReady, PubSubError
from pgpubsub_sql.logs import configure
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.display import Display
from pgpubsub_sql.worker.limits import Limits
from pgpubsub_sql.worker.pulse import Pulse, Pulses
from pgpubsub_sql.worker.shutdown import Lifeline
from pgpubsub_sql.worker.worker import Worker

logger = logging.getLogger("pgpubsub_sql.worker")

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s[%(process)d] %(message)s"


class ExitStatus(enum.IntEnum):
    """Exit status of a worker process.

    Any other, including 0, means that the worker died: a listener called ``os._exit()``, or
    something killed the process.
    """

    DONE = 90
    """It has done its work."""
    MESSAGES_FAILED = 91
    """It has drained its channels, and some messages failed."""
    SPENT = 92
    """It has reached one of its limits, and is to be replaced."""
    FAILED = os.EX_SOFTWARE
    """It raised an exception that no message is to blame for."""
    UNFIT = os.EX_CONFIG
    """It could not start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Options of each worker process. All values can be encoded as JSON."""

    channels: tuple[str, ...]
    """Names of the channels to listen to."""
    lanes: tuple[tuple[str, str], ...] = ()
    """The channel and the subscription of what is stored for these workers; empty for all of the
    channels."""
    database: str = "default"
    """Alias of the database."""
    place: str = ""
    """Database and schema that the alias must lead to; empty for any."""
    search_path: str = ""
    """The search_path there; empty for that of a new connection."""
    drain: bool = False
    """Handle the stored messages that are ready, then end."""
    loglevel: str | None = None
    """A level of :mod:`logging`; None for INFO, or what the project's LOGGING says."""
    logformat: str = LOG_FORMAT
    """A format of :mod:`logging`."""
    json_logs: bool = False
    """Log JSON objects instead."""
    name: str = ""
    """Name of the workers in the log and on the server; empty for the default."""
    max_notifications: int | None = None
    """Number of messages after which a worker is replaced; None for any number."""
    max_memory: int | None = None
    """Megabytes of memory beyond which a worker is replaced; None for any size."""

    def process_name(self, number: int | None = None) -> str:
        """Return the name of a worker's process, or without *number* of the main process."""
        name = self.name or "listen"
        return name if number is None else f"{name}-{number}"

    def display(self, pulses: Pulses, processes: int) -> Display:
        """Return what shows what the workers of *pulses* have been handling for long."""
        return Display(
            pulses,
            processes,
            self.channels,
            using=self.database,
            search_path=self.search_path,
            name=self.name,
        )

    def configure_logging(self) -> None:
        """Log to standard error, unless the project's LOGGING has handlers."""
        configure(level=self.loglevel, format_=self.logformat, as_json=self.json_logs)


def work(options: WorkerOptions) -> ExitStatus:
    """Run one worker in this process, without a supervisor."""
    with closing(Pulses(1)) as pulses, options.display(pulses, 1):
        return _work(options, Pulse.shared(pulses.fd, 0))


def _work(options: WorkerOptions, pulse: Pulse, lifeline: Lifeline | None = None) -> ExitStatus:
    options.configure_logging()
    _write_lines()
    channels = [find_channel(name) for name in options.channels]
    _refuse_timeouts_under_gevent(channels)
    name = multiprocessing.current_process().name if options.name else ""
    worker = Worker(
        channels,
        using=options.database,
        lanes=[Lane(*names) for names in options.lanes],
        expected_place=options.place,
        name=name,
        lifeline=lifeline,
        pulse=pulse,
        limits=Limits(messages=options.max_notifications, memory=options.max_memory),
    )
    if options.drain:
        return ExitStatus.DONE if worker.drain() else ExitStatus.MESSAGES_FAILED
    worker.run()
    return ExitStatus.SPENT if worker.is_spent else ExitStatus.DONE


def _refuse_timeouts_under_gevent(channels: list[type[BaseChannel]]) -> None:
    """Raise :class:`NotReady` for a timeout that would never come under gevent."""
    patches = sys.modules.get("gevent.monkey")
    if patches is None or not patches.is_module_patched("threading"):
        return
    if limited := [channel.postgres_name() for channel in channels if channel.timeout is not None]:
        raise NotReady(
            f"The timeout of {', '.join(limited)} cannot be kept: gevent has patched threading, so "
            "that the thread which watches a listener has to wait for it. Remove the timeout, use "
            "gevent.Timeout in the listener, or start the worker without gevent's patches."
        )


def _write_lines() -> None:
    """Flush standard output after each line, even if it is no terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


class Process(Protocol):
    """A process that has been started."""

    @property
    def pid(self) -> int | None:
        """The process id."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""

    def wait(self) -> object:
        """Wait for the process to end."""


def spawn(options: WorkerOptions, number: int, lifeline: Lifeline) -> Process:
    """Start a worker in a new interpreter.

    It gets this process's environment, ``sys.path``, ``sys.argv``, settings module and interpreter
    options. It does not import this process's ``__main__``, which not every ``manage.py`` allows,
    and it is no :mod:`multiprocessing` process, which listeners could tell.
    """
    told = {
        "argv": sys.argv,
        "path": [str(each) for each in sys.path],
        "settings": settings.SETTINGS_MODULE or "",
        "options": dataclasses.asdict(options),
        "number": number,
        "lifeline": dataclasses.asdict(lifeline),
    }
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(  # noqa: S603
        [os.fsdecode(get_executable()), *flags, "-c", _BOOTSTRAP, json.dumps(told)],
        stdin=subprocess.DEVNULL,
        pass_fds=[lifeline.reader, lifeline.pulses],
    )


_BOOTSTRAP = f"""\
import json, os, sys
told = json.loads(sys.argv[1])
sys.argv, sys.path[:] = told["argv"], told["path"]
os.environ["DJANGO_SETTINGS_MODULE"] = told["settings"]
try:
    import django
    django.setup()
    from pgpubsub_sql.worker.processes import spawned
except Exception:
    import traceback
    traceback.print_exc()
    sys.exit({ExitStatus.UNFIT})
sys.exit(spawned(told))
"""
"""Imports nothing of this package before Django has configured logging: by default, the project's
LOGGING disables all loggers that exist by then."""


def spawned(told: dict[str, Any]) -> int:
    """Run the worker that the supervisor described in *told*; return the exit status."""
    options = WorkerOptions(**told["options"])
    return _run_worker(options, told["number"], Lifeline(**told["lifeline"]))


def fork(options: WorkerOptions, number: int, lifeline: Lifeline) -> Process:
    """Start a worker as a fork of this process, which must have no open connection."""
    process = _Fork(target=lambda: sys.exit(_run_worker(options, number, lifeline)))
    process.start()
    return process


class _Fork(ForkProcess):
    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> None:
        self.join()


def _run_worker(options: WorkerOptions, number: int, lifeline: Lifeline) -> int:
    multiprocessing.current_process().name = options.process_name(number)
    try:
        return _work(options, Pulse.shared(lifeline.pulses, number), lifeline)
    except PubSubError as error:
        logger.critical("Worker %s cannot work: %s", number, error)
        return ExitStatus.UNFIT
    except Exception:
        logger.critical(
            "Worker %s ends with an error that no message caused", number, exc_info=True
        )
        return ExitStatus.FAILED
