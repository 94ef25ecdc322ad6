"""``python -m pgpubsub_sql.embedded``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pgpubsub_sql.embedded.binaries import BINARIES_VARIABLE
from tests import measuring
from tests.embedded.support import DEADLINE, needs_linux, running, words

# A command that exits with the signal it receives, or 99 if a second one arrives soon after.
COMMAND = """
import os, signal, sys
numbers = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print(os.environ["PGHOST"], flush=True)
first = signal.sigwait(numbers)
second = signal.sigtimedwait(numbers, 0.3)
sys.exit(99 if second else 40 + first)
"""


def cli(*arguments: str) -> list[str]:
    site = [] if measuring.IS_ON else ["-S"]
    return [sys.executable, *site, "-m", "pgpubsub_sql.embedded", *arguments]


@pytest.mark.usefixtures("quick")
def test_the_command_has_the_environment_and_its_exit_code_is_passed_on(bare: Path) -> None:
    script = 'echo $PGHOST $PGPORT $PGUSER $PGDATABASE; test -S "$PGHOST/.s.PGSQL.5432" && exit 7'
    with running(cli("-c", "fsync=off", "--", "sh", "-c", script), bare) as process:
        host, *others = words(process)
        assert others == ["5432", "postgres", "postgres"]
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 7
        assert not Path(host).exists()


@pytest.mark.usefixtures("quick")
def test_the_servers_programs_are_last_on_the_path_of_the_command(
    bare: Path, quick_binaries: Path
) -> None:
    """An installed psql is preferred, and the server's is found where there is none."""
    with running(cli("--", "sh", "-c", "echo $PATH"), bare) as process:
        (path,) = words(process)
        assert path == f"{os.environ['PATH']}{os.pathsep}{quick_binaries}"
        process.communicate(timeout=DEADLINE)


@needs_linux
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("send", "number"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGINT), (os.kill, signal.SIGTERM)],
)
def test_the_command_receives_a_signal_once(bare: Path, send: Any, number: signal.Signals) -> None:
    with running(cli("--", sys.executable, "-S", "-c", COMMAND), bare) as process:
        (host,) = words(process)
        send(process.pid, number)
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 40 + number
        assert not Path(host).exists()


@needs_linux
@pytest.mark.usefixtures("quick")
def test_ctrl_c_on_a_terminal_reaches_the_command_once(bare: Path) -> None:
    main, terminal = os.openpty()
    options = {
        "stdin": terminal,
        "start_new_session": False,
        "preexec_fn": lambda: _take_terminal(terminal),
    }
    command = cli("--", sys.executable, "-S", "-c", COMMAND)
    with running(command, bare, **options) as process:
        (host,) = words(process)
        os.write(main, b"\x03")
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 40 + signal.SIGINT
        assert not Path(host).exists()
    os.close(main)
    os.close(terminal)


def _take_terminal(terminal: int) -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.mark.usefixtures("quick")
def test_without_a_command_it_serves_until_ctrl_c(bare: Path) -> None:
    with running(cli(), bare) as process:
        lines = [words(process) for _ in range(6)]
        assert lines[4][0] == "export"
        assert lines[4][1] == f'PATH="$PATH":{os.environ[BINARIES_VARIABLE]}'
        names = dict(word.split("=") for export, word in lines[:4] if export == "export")
        assert list(names) == ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"]
        assert Path(names["PGHOST"], f".s.PGSQL.{names['PGPORT']}").is_socket()
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 0
        assert not Path(names["PGHOST"]).exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "-- pytest"),
        (["-c", "fsync"], 2, "'fsync' is not NAME=VALUE"),
        (["-c", "fsync=perhaps"], 1, 'parameter "fsync" requires a Boolean value'),
        (["--", "/no/such/command"], 127, "/no/such/command: No such file or directory"),
    ],
)
def test_help_and_errors_of_the_command_line(
    bare: Path, arguments: list[str], code: int, text: str
) -> None:
    with running(cli(*arguments), bare) as process:
        output, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == code
        assert text in output + errors
