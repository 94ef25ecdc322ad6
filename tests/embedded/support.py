"""Programs, processes and files for the tests of embedded servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.embedded.binaries import wheel_directories

ROOT = os.geteuid() == 0

DEADLINE = 20  # seconds: far more than anything here takes

needs_root = pytest.mark.skipif(not ROOT, reason="only root can run programs as another user")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a call of Linux")

# A parent that starts a server, prints where it is, and waits to be killed.
PARENT = """
import sys
from pgpubsub_sql.embedded import Server
with Server() as server:
    print(server.host, server.pid, flush=True)
    sys.stdin.read()
"""


def wheel_bin() -> Path:
    return wheel_directories()[0]


def bin_in(copy: Path) -> Path:
    return copy / wheel_bin().relative_to(wheel_bin().parents[2])


def installation(directory: Path) -> Path:
    """Create programs that do nothing."""
    directory.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


@contextlib.contextmanager
def connected(server: Server) -> Iterator[Any]:
    connection = psycopg2.connect(
        host=server.host, port=server.port, user=server.user, dbname=server.dbname
    )
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def ask(server: Server, sql: str) -> Any:
    with connected(server) as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def running(command: list[str], bare: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a child in its own session; its standard error ends when its keeper has ended."""
    environment = os.environ | {"PYTHONPATH": str(bare), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
    process = subprocess.Popen(
        command, env=environment, text=True, **{"cwd": "/", "start_new_session": True} | pipes
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=DEADLINE)


def words(process: subprocess.Popen[str]) -> list[str]:
    """Return the next line that the process prints, as words."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=DEADLINE)
    return line.split()


def snapshot(*trees: Path) -> dict[Path, tuple[int, int, int]]:
    paths = [path for tree in trees for path in (tree, *tree.parents, *tree.rglob("*"))]
    found = {path: path.lstat() for path in paths}
    return {path: (entry.st_mode, entry.st_uid, entry.st_gid) for path, entry in found.items()}
