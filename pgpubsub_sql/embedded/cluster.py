"""The files of a database cluster."""

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

from pgpubsub_sql.embedded.log import new_log, tail_of
from pgpubsub_sql.embedded.site import Site
from pgpubsub_sql.errors import ServerError


@contextlib.contextmanager
def open_cluster(site: Site) -> Iterator[tuple[Path, Path]]:
    """Give the directory of an initialised cluster, and the log."""
    if site.plan.data_dir is None:
        data = site.host / "data"
        _initialise(site, data, "--no-sync")
        yield data, new_log(site.host, site.account)
        return
    data = Path(site.plan.data_dir)
    created = _create(data, site.account)
    with _locked(data):
        if created or not any(data.iterdir()):
            _initialise_locked(site, data, created)
        yield data, new_log(data, site.account)


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


def _initialise_locked(site: Site, data: Path, created: bool) -> None:
    # initdb would change the mode of a directory that is not ours to change.
    if not created and stat.S_IMODE(data.stat().st_mode) not in (0o700, 0o750):
        raise ServerError(f"PostgreSQL needs {data} to have mode 0700. Change it, or remove it.")
    try:
        _initialise(site, data)
    except BaseException:
        if created:
            shutil.rmtree(data)
        raise


def _initialise(site: Site, data: Path, *options: str) -> None:
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
        output = tail_of(result.stdout.decode(errors="replace"), "The end of its output")
        raise ServerError(f"initdb{who} failed.{output}")
