"""The embedded server: real processes, real signals, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pgpubsub_sql import embedded
from pgpubsub_sql.embedded import Server, find_binaries
from pgpubsub_sql.embedded.binaries import (
    BINARIES_VARIABLE,
    WHEEL,
    copy_installation,
    wheel_directories,
)
from pgpubsub_sql.embedded.posix import run_as
from pgpubsub_sql.embedded.workspace import directory_for_sockets, open_to_all
from pgpubsub_sql.errors import ServerError
from tests import measuring

ROOT = os.geteuid() == 0
DEADLINE = 20  # seconds: far more than anything here takes

needs_root = pytest.mark.skipif(not ROOT, reason="only root can run programs as another user")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a call of Linux")

# A parent that starts a server, tells where it is and then waits to be killed.
PARENT = """
import sys
from pgpubsub_sql.embedded import Server
with Server() as server:
    print(server.host, server.pid, flush=True)
    sys.stdin.read()
"""

# A command that reports each signal it gets, for as long as a second one might take to arrive.
COMMAND = """
import os, signal, sys
numbers = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print(os.environ["PGHOST"], flush=True)
first = signal.sigwait(numbers)
second = signal.sigtimedwait(numbers, 0.3)
sys.exit(99 if second else 40 + first)
"""


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every temporary file of a test comes here, and must be gone at its end."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    directory.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.delenv(BINARIES_VARIABLE, raising=False)
    try:
        yield directory
        assert list(directory.iterdir()) == []
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own is closed to all but one."""
    with tempfile.TemporaryDirectory(prefix="place-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def bare() -> Iterator[Path]:
    """A directory for PYTHONPATH: this package and the wheel, no Django, readable by everybody."""
    with tempfile.TemporaryDirectory(prefix="bare-", dir="/tmp") as name:
        target = Path(name)
        site = _wheel_bin().parents[2]
        if open_to_all(site):
            (target / WHEEL).symlink_to(site / WHEEL)
        else:
            copy_installation(_wheel_bin().parent, target)
        package = target / "pgpubsub_sql"
        package.mkdir()
        (package / "__init__.py").touch()
        source, no_cache = Path(embedded.__file__).parent, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, package / "embedded", ignore=no_cache)
        shutil.copy(source.with_name("errors.py"), package)
        for path in (target, package, *package.rglob("*")):
            path.chmod(0o755)
        yield target


@pytest.fixture(scope="module")
def quick_binaries(bare: Path) -> Iterator[Path]:
    """The same binaries, but an initdb that copies what the real one has made before."""
    with tempfile.TemporaryDirectory(prefix="quick-", dir="/tmp") as name:
        binaries, cluster = installation(Path(name) / "bin"), Path(name) / "cluster"
        Path(name).chmod(0o1777)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            # Small files of the log: a copy is half the size.
            [_bin_in(bare) / "initdb", "-D", cluster, "--wal-segsize=1", *options],
            check=True,
            capture_output=True,
            cwd="/",
            **run_as(pwd.getpwnam("nobody") if ROOT else None),
        )
        (binaries / "postgres").unlink()
        (binaries / "postgres").symlink_to(_bin_in(bare) / "postgres")
        (binaries / "initdb").write_text(f'#!/bin/sh\nexec cp -R {cluster} "$2"\n')
        yield binaries


@pytest.fixture
def quick(quick_binaries: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """For the tests that are about processes and signals: initdb takes most of a start."""
    monkeypatch.setenv(BINARIES_VARIABLE, str(quick_binaries))


def _wheel_bin() -> Path:
    return wheel_directories()[0]


def _bin_in(copy: Path) -> Path:
    return copy / _wheel_bin().relative_to(_wheel_bin().parents[2])


def installation(directory: Path) -> Path:
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
    """A child in a session of its own, whose standard error ends when its keeper has ended."""
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


def cli(*arguments: str) -> list[str]:
    site = [] if measuring.IS_ON else ["-S"]
    return [sys.executable, *site, "-m", "pgpubsub_sql.embedded", *arguments]


def words(process: subprocess.Popen[str]) -> list[str]:
    """The next line the process prints; pytest-timeout ends a test in which none comes."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=DEADLINE)
    return line.split()


def snapshot(*trees: Path) -> dict[Path, tuple[int, int, int]]:
    paths = [path for tree in trees for path in (tree, *tree.parents, *tree.rglob("*"))]
    found = {path: path.lstat() for path in paths}
    return {path: (entry.st_mode, entry.st_uid, entry.st_gid) for path, entry in found.items()}


# --- The binaries --------------------------------------------------------------------------------


def test_the_lookup_goes_from_the_variable_to_the_wheel_the_system_and_the_path(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = installation(place / "named")
    wheel = installation(place / WHEEL / "pginstall18" / "bin")
    installation(place / WHEEL / "pginstall" / "bin")
    system = installation(place / "system" / "17" / "bin")
    installation(place / "system" / "9.6" / "bin")
    real = installation(place / "real")
    (place / "links").mkdir()
    (place / "links" / "postgres").symlink_to(real / "postgres")

    monkeypatch.setattr(sys, "path", [str(place)])
    monkeypatch.setattr("pgpubsub_sql.embedded.binaries.SYSTEM_INSTALLATIONS", place / "system")
    monkeypatch.setenv("PATH", str(place / "links"))
    monkeypatch.setenv(BINARIES_VARIABLE, str(named))

    assert find_binaries() == named
    monkeypatch.delenv(BINARIES_VARIABLE)
    assert find_binaries() == wheel
    shutil.rmtree(place / WHEEL / "pginstall18")
    assert find_binaries() == place / WHEEL / "pginstall" / "bin"
    shutil.rmtree(place / WHEEL)
    assert find_binaries() == system
    shutil.rmtree(place / "system")
    assert find_binaries() == real
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match=r"pip install 'pgpubsub-sql\[embedded\]'"):
        find_binaries()


def test_a_variable_that_names_no_binaries_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BINARIES_VARIABLE, str(place))
    with pytest.raises(ServerError, match=f"{BINARIES_VARIABLE}={place} holds no"):
        find_binaries()


def test_the_wheel_is_found_and_not_imported() -> None:
    assert find_binaries() == _wheel_bin()
    assert find_binaries().parent.name == "pginstall18"
    assert WHEEL not in sys.modules


# --- Throw-away ----------------------------------------------------------------------------------


@needs_linux
def test_a_throw_away_server_answers_and_disappears(temporary: Path) -> None:
    before = snapshot(_wheel_bin())
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
    assert snapshot(_wheel_bin()) == before


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
    (slow / "postgres").symlink_to(_wheel_bin() / "postgres")
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


# --- Persistent ----------------------------------------------------------------------------------


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


def test_a_directory_that_is_not_ours_to_change_stays_as_it_is(place: Path) -> None:
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


# --- The end of the parent -----------------------------------------------------------------------


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
    (binaries / "postgres").symlink_to(_bin_in(bare) / "postgres")
    real = _bin_in(bare) / "initdb"
    (binaries / "initdb").write_text(f'#!/bin/sh\necho > {fifo}\nexec {real} "$@"\n')
    (binaries / "initdb").chmod(0o755)
    monkeypatch.setenv(BINARIES_VARIABLE, str(binaries))
    with running([sys.executable, "-S", "-c", PARENT], bare) as parent:
        fifo.read_text()  # until initdb has begun
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate(timeout=DEADLINE)


@pytest.mark.usefixtures("quick")
@needs_linux
def test_sigkill_of_the_keeper_ends_the_server(temporary: Path) -> None:
    with Server() as server:
        assert server._keeper is not None
        assert server.pid is not None
        process = os.pidfd_open(server.pid)
        server._keeper.kill()
        assert select.select([process], [], [], DEADLINE)[0]
        os.close(process)
    assert list(temporary.iterdir()) == []


# --- Users ---------------------------------------------------------------------------------------


@needs_root
def test_an_ordinary_user_runs_a_server(bare: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    python = _python_of_everybody(who)
    with running([python, "-S", "-c", PARENT], bare, **who) as parent:
        host, pid = words(parent)
        assert Path(host).stat().st_uid == nobody.pw_uid
        assert parent.communicate("", timeout=DEADLINE) == ("", "")
        assert parent.returncode == 0
        assert not exists(int(pid))
        assert not Path(host).exists()


def _python_of_everybody(who: dict[str, Any]) -> str:
    """An interpreter that an ordinary user can run; the tests' own may be below /root."""
    program = "import sys; sys.exit(sys.version_info < (3, 11))"
    path = os.environ["PATH"].split(os.pathsep)
    names = (f"python3.{minor}" for minor in range(sys.version_info.minor, 10, -1))
    found = (shutil.which(name, path=directory) for name in names for directory in path)
    for python in (sys.executable, *filter(None, found)):
        with contextlib.suppress(PermissionError):
            if subprocess.run([python, "-S", "-c", program], cwd="/", **who).returncode == 0:
                return python
    pytest.skip("no Python >= 3.11 on PATH that an ordinary user can run")


@needs_root
@needs_linux
def test_binaries_that_the_server_user_cannot_reach_are_copied(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    copy_installation(_wheel_bin().parent, private)
    binaries = _bin_in(private)
    (binaries / "postgres").chmod(0o700)
    before = snapshot(private)
    with Server(bin_dir=binaries) as server:
        assert ask(server, "SELECT 1") == 1
        assert Path(server.host) in Path(f"/proc/{server.pid}/exe").resolve().parents
        assert Path(server.host).stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert server.bin_dir == binaries
    assert snapshot(private) == before


def test_the_socket_goes_where_the_server_user_can_reach_it_and_its_path_fits(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, long = place / "closed", place / ("x" * 60)
    closed.mkdir(mode=0o700)
    long.mkdir()
    nobody = pwd.getpwnam("nobody")

    def chosen(directory: Path, account: pwd.struct_passwd | None) -> Path:
        monkeypatch.setattr(tempfile, "tempdir", str(directory))
        return directory_for_sockets(Server()._config(), account)

    assert chosen(place, nobody) == place
    assert chosen(closed, None) == closed
    assert chosen(closed, nobody) == Path("/tmp")
    assert chosen(long, None) == Path("/tmp")


# --- The command line ----------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_the_command_gets_the_environment_and_gives_the_exit_code(bare: Path) -> None:
    script = 'echo $PGHOST $PGPORT $PGUSER $PGDATABASE; test -S "$PGHOST/.s.PGSQL.5432" && exit 7'
    with running(cli("-c", "fsync=off", "--", "sh", "-c", script), bare) as process:
        host, *others = words(process)
        assert others == ["5432", "postgres", "postgres"]
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 7
        assert not Path(host).exists()


@pytest.mark.usefixtures("quick")
def test_the_command_finds_a_psql_of_ones_own_first(bare: Path, quick_binaries: Path) -> None:
    """And that of the server where there is none: from nothing means without one."""
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
def test_the_command_gets_a_signal_once(bare: Path, send: Any, number: signal.Signals) -> None:
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
def test_what_the_command_line_says(bare: Path, arguments: list[str], code: int, text: str) -> None:
    with running(cli(*arguments), bare) as process:
        output, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == code
        assert text in output + errors
