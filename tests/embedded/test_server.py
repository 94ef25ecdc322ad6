"""Throw-away and persistent servers: start, restart, stop, and what is left of them."""

from __future__ import annotations

import os
import pwd
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.errors import ServerError
from tests.embedded.support import (
    DEADLINE,
    ROOT,
    ask,
    connected,
    exists,
    installation,
    needs_linux,
    snapshot,
    wheel_bin,
)


@needs_linux
def test_a_throw_away_server_answers_and_disappears(temporary: Path) -> None:
    before = snapshot(wheel_bin())
    with Server(settings={"work_mem": "5MB", "listen_addresses": "*"}) as server:
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert ask(server, "SHOW work_mem") == "5MB"
        assert ask(server, "SHOW listen_addresses") == ""
        assert ask(server, "SHOW fsync") == "on"
        pid, host = server.pid, Path(server.host)
        assert pid is not None
        assert exists(pid)
        assert host.parent == temporary
        assert stat.S_IMODE(host.stat().st_mode) == 0o700
        program = Path(f"/proc/{pid}/exe").resolve()
        assert program in {server.bin_dir / "postgres"} or host in program.parents
        assert "postgresql/1" not in Path(f"/proc/{pid}/maps").read_text()
        assert server.environment() == {
            "PGHOST": str(host),
            "PGPORT": "5432",
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
        }
    assert not exists(pid)
    assert not host.exists()
    assert snapshot(wheel_bin()) == before


@pytest.mark.usefixtures("quick")
def test_a_server_keeps_its_address_but_not_its_data() -> None:
    server = Server()
    with pytest.raises(ServerError, match="no address"):
        server.environment()
    with server:
        ask(server, "CREATE TABLE kept (id int)")
        address = server.environment()
        with pytest.raises(ServerError, match="already been started"):
            server.start()
    with server:
        assert server.environment() == address
        assert ask(server, "SELECT to_regclass('kept')") is None
    server.stop()  # a second time: nothing happens


@pytest.mark.usefixtures("quick")
def test_restart_immediate_is_a_crash_with_recovery() -> None:
    with Server() as server, connected(server) as cursor:
        cursor.execute("CREATE TABLE kept (id int)")
        address, pid = server.environment(), server.pid
        server.restart("immediate")
        with pytest.raises(psycopg2.DatabaseError, match="server"):
            cursor.execute("SELECT 1")
        assert server.environment() == address
        assert server.pid != pid
        assert ask(server, "SELECT to_regclass('kept')::text") == "kept"
        assert server.log is not None
        assert "was not properly shut down" in server.log.read_text()
        server.restart()
        assert server.log.read_text().count("was not properly shut down") == 1


@pytest.mark.usefixtures("quick")
@needs_linux
def test_a_server_that_died_can_be_started_again() -> None:
    with Server() as server:
        assert server.pid is not None
        process = os.pidfd_open(server.pid)
        os.kill(server.pid, signal.SIGQUIT)
        assert select.select([process], [], [], DEADLINE)[0]
        os.close(process)
        server.restart()
        assert ask(server, "SELECT 1") == 1


@pytest.mark.usefixtures("quick")
def test_a_failing_start_shows_the_log_and_leaves_nothing() -> None:
    with pytest.raises(ServerError) as caught:
        Server(settings={"shared_buffers": "nonsense"}).start()
    assert 'invalid value for parameter "shared_buffers": "nonsense"' in str(caught.value)
    assert "exited with code 1" in str(caught.value)


def test_a_start_that_takes_too_long_is_given_up(place: Path) -> None:
    slow = installation(place / "slow")
    (slow / "postgres").unlink()
    (slow / "postgres").symlink_to(wheel_bin() / "postgres")
    (slow / "initdb").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(ServerError, match=r"0\.3 seconds"):
        Server(bin_dir=slow, start_timeout=0.3).start()


@pytest.mark.usefixtures("quick")
@needs_linux
def test_a_server_that_does_not_stop_is_killed() -> None:
    with Server(shutdown_timeout=0.1) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        pid = server.pid
    assert not exists(pid)


@pytest.mark.usefixtures("quick")
def test_a_forked_child_does_not_stop_the_server() -> None:
    # In a process of its own: forking pytest would be asking for trouble.
    program = """
import os
from pgpubsub_sql.embedded import Server
with Server() as server:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        server.restart()  # the keeper obeys in turn: had the child stopped it, this would fail
        print("alive")
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert result.stdout == "alive\n"


def test_a_persistent_server_keeps_its_data_and_its_log(place: Path) -> None:
    place.chmod(0o1777)
    data = place / "data"
    with Server(data) as server:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS id")
        first = server.host
        with pytest.raises(ServerError, match=f"{data} is in use by another server"):
            Server(data_dir=str(data)).start()
        assert ask(server, "SELECT id FROM kept") == 42
    mode, owner, group = snapshot(data)[data]
    with Server(data) as server:
        assert server.host != first
        assert ask(server, "SELECT id FROM kept") == 42
        assert server.log is not None
    assert server.log.parent == data
    assert "database system is shut down" in server.log.read_text()
    assert snapshot(data)[data] == (mode, owner, group)
    assert snapshot(data)[place] == (stat.S_IFDIR | 0o1777, os.getuid(), place.stat().st_gid)


def test_an_existing_directory_keeps_its_mode_and_owner(place: Path) -> None:
    data = place / "data"
    data.mkdir(mode=0o755)
    if ROOT:
        with pytest.raises(ServerError, match="belongs to root"):
            Server(data).start()
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    before = snapshot(data)
    with pytest.raises(ServerError, match="to have mode 0700"):
        Server(data).start()
    assert snapshot(data) == before
    data.chmod(0o700)
    with Server(data) as server:
        assert ask(server, "SHOW data_directory") == str(data)


def test_a_failed_initialisation_is_undone(place: Path) -> None:
    broken = installation(place / "broken")
    (broken / "initdb").write_text('#!/bin/sh\necho "no luck today"; touch "$2/half"; exit 3\n')
    with pytest.raises(ServerError, match=r"initdb(?s:.*)no luck today"):
        Server(place / "data", bin_dir=broken).start()
    assert not (place / "data").exists()
    with pytest.raises(ServerError, match="No such file"):
        Server(place / "missing" / "data").start()
