"""Parents and keepers that are killed leave no process and no file."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.embedded.binaries import BINARIES_VARIABLE
from tests.embedded.support import DEADLINE, PARENT, bin_in, exists, needs_linux, running, words


@pytest.mark.usefixtures("quick")
def test_sigkill_of_the_parent_leaves_no_process_and_no_file(bare: Path) -> None:
    with running([sys.executable, "-S", "-c", PARENT], bare) as parent:
        host, pid = words(parent)
        assert Path(host).is_dir()
        assert exists(int(pid))
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate(timeout=DEADLINE)  # until the keeper has ended
        assert not exists(int(pid))
        assert not Path(host).exists()


def test_sigkill_while_initdb_runs_leaves_nothing(
    bare: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries, fifo = place / "bin", place / "fifo"
    binaries.mkdir()
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    (binaries / "postgres").symlink_to(bin_in(bare) / "postgres")
    real = bin_in(bare) / "initdb"
    (binaries / "initdb").write_text(f'#!/bin/sh\necho > {fifo}\nexec {real} "$@"\n')
    (binaries / "initdb").chmod(0o755)
    monkeypatch.setenv(BINARIES_VARIABLE, str(binaries))
    with running([sys.executable, "-S", "-c", PARENT], bare) as parent:
        fifo.read_text()  # until initdb has begun
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate(timeout=DEADLINE)


def parent_of(pid: int) -> int:
    """Return the parent of a process, which is the keeper if the process is a server."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


@pytest.mark.usefixtures("quick")
@needs_linux
def test_sigkill_of_the_keeper_ends_the_server(temporary: Path) -> None:
    with Server() as server:
        assert server.pid is not None
        process = os.pidfd_open(server.pid)
        os.kill(parent_of(server.pid), signal.SIGKILL)
        assert select.select([process], [], [], DEADLINE)[0]
        os.close(process)
    assert list(temporary.iterdir()) == []
