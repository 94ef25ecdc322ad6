"""A PgBouncer in front of a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ecosystem.packages import SYSTEM_PATH
from tests.ecosystem.trial import eventually

CONFIGURATION = """
[databases]
* = host={PGHOST} port={PGPORT} user={PGUSER}

[pgbouncer]
unix_socket_dir = {directory}
listen_addr =
listen_port = 6432
auth_type = any
pool_mode = {mode}
default_pool_size = 8
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pgbouncer(mode: str, address: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run one in front of the server at *address*; yield its own address."""
    program = shutil.which("pgbouncer", path=SYSTEM_PATH)
    assert program is not None
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)  # it does not run as root, and makes its socket here
        settings = Path(directory, "pgbouncer.ini")
        settings.write_text(CONFIGURATION.format(directory=directory, mode=mode, **address))
        account = {"user": "nobody"} if os.geteuid() == 0 else {}
        with subprocess.Popen([program, "-q", str(settings)], **account) as process:
            try:
                socket = Path(directory, ".s.PGSQL.6432")
                eventually(socket.exists, lambda: "PgBouncer does not answer")
                yield {**address, "PGHOST": directory, "PGPORT": "6432"}
            finally:
                process.terminate()
