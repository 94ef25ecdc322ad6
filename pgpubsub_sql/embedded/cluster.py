"""The files of a database cluster: its data directory and the server's log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pgpubsub_sql.embedded.workspace import Workspace
from pgpubsub_sql.errors import ServerError

LOG_TAIL_LINES = 25


@contextlib.contextmanager
def open_cluster(workspace: Workspace) -> Iterator[tuple[Path, Path]]:
    """Yield the directory of an initialised cluster, and the path of an empty log."""
    if workspace.config.data_dir is None:
        data = workspace.host / "data"
        _initialise(workspace, data, "--no-sync")
        yield data, _new_log(workspace.host, workspace.account)
        return
    data = Path(workspace.config.data_dir)
    created = _create(data, workspace.account)
    with _locked(data):
        if created or not any(data.iterdir()):
            _initialise_locked(workspace, data, created)
        yield data, _new_log(data, workspace.account)


def tail(text: str, title: str) -> str:
    """Return the last lines of a program's output, indented below *title*."""
    lines = text.rstrip().splitlines()[-LOG_TAIL_LINES:]
    return "\n".join((f" {title}:", *(f"    {line}" for line in lines or ["(it is empty)"])))


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
        raise ServerError(f"{directory} is in use by another server.") from error


def _initialise_locked(workspace: Workspace, data: Path, created: bool) -> None:
    # initdb would change the mode, and that of a directory we did not create is not ours to change.
    if not created and stat.S_IMODE(data.stat().st_mode) not in (0o700, 0o750):
        raise ServerError(f"PostgreSQL needs {data} to have mode 0700. Change it, or remove it.")
    try:
        _initialise(workspace, data)
    except BaseException:
        if created:
            shutil.rmtree(data)
        raise


def _initialise(workspace: Workspace, data: Path, *options: str) -> None:
    initdb = str(workspace.binaries / "initdb")
    command = [initdb, "-D", str(data), "-U", workspace.config.user, *options]
    result = subprocess.run(  # noqa: S603
        [*command, "--auth=trust", "--encoding=UTF8", "--locale=C"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=workspace.config.start_timeout,
        check=False,
        **workspace.process_options(),
    )
    if result.returncode != 0:
        who = f", run as user {workspace.account.pw_name}," if workspace.account else ""
        output = tail(result.stdout.decode(errors="replace"), "The end of its output")
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
