"""A ``python`` that has imported Django already."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("forked.py")


@contextmanager
def preloaded_python(directory: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Yield where a program ``python`` is, whose ``manage.py`` need not import Django first.

    Each ``python manage.py`` is a process of its own, forked by a server that has imported what all
    commands import: that takes half a second of processor. Anything else is Python itself.
    """
    python, address = directory / "python", str(directory / "address")
    run = [sys.executable, "-I", "-S", str(PROGRAM), "run", address]
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = manage.py ] && exec {shlex.join(run)} "$@"\n'
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(100)
        number = listening.fileno()
        with subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), "serve", str(number)],
            env=environment,
            stdin=subprocess.PIPE,  # it ends with it
            pass_fds=[number],
            start_new_session=True,
        ):
            listening.close()  # else clients would wait for a server that has failed
            yield directory
