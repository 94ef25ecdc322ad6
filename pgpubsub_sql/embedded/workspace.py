"""The temporary directory of a server, and the user that the server runs as."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pwd
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgpubsub_sql.embedded.binaries import reachable_binaries
from pgpubsub_sql.embedded.posix import die_with_parent, run_as, server_account
from pgpubsub_sql.embedded.protocol import ServerConfig
from pgpubsub_sql.errors import ServerError

# macOS has the shortest limit of a unix socket's path: 104 bytes, one of them the final NUL.
SOCKET_PATH_BYTES = 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where, with which programs and as whom a server runs."""

    config: ServerConfig
    host: Path
    """Holds the socket and everything temporary; belongs to the server's user."""
    binaries: Path
    account: pwd.struct_passwd | None
    """The server's user; None for the present one."""

    def process_options(self) -> dict[str, Any]:
        """Return the arguments with which ``subprocess`` runs a program as the server's user."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
        return run_as(self.account) | {
            "cwd": self.host,
            "env": inherited | {"LC_ALL": "C"},
            # Runs after the change of user, which would undo it. Linux watches the parent's
            # thread, not the parent: the keeper has one thread, so both end together.
            "preexec_fn": functools.partial(die_with_parent, signal.SIGINT),
        }


@contextlib.contextmanager
def open_workspace(config: ServerConfig) -> Iterator[Workspace]:
    """Create the temporary directory, and remove it at the end."""
    account = server_account(config.data_dir)
    host = _create_host(config, account)
    try:
        binaries = reachable_binaries(Path(config.bin_dir), account, host)
        if account is not None:
            # Last: root must not write where this user may put links.
            os.chown(host, account.pw_uid, account.pw_gid)
        yield Workspace(config=config, host=host, binaries=binaries, account=account)
    finally:
        _remove(host)


def _remove(directory: Path) -> None:
    # Processes of a server that had to be killed go on writing until they notice.
    deadline = time.monotonic() + 10
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{directory} cannot be removed: {error}") from error
            time.sleep(0.02)


def _create_host(config: ServerConfig, account: pwd.struct_passwd | None) -> Path:
    if not config.host:
        parent = directory_for_sockets(Path(config.temporary), config.port, account)
        return Path(tempfile.mkdtemp(prefix="pgpubsub-", dir=parent))
    os.mkdir(config.host, mode=0o700)  # fails if somebody else has taken the name meanwhile
    return Path(config.host)


def directory_for_sockets(temporary: Path, port: int, account: pwd.struct_passwd | None) -> Path:
    """Return *temporary*, or ``/tmp`` if *account* cannot reach it or a socket's path is too long.

    Raises ``ServerError`` if ``/tmp`` will not do either.
    """
    name = f"/pgpubsub-12345678/.s.PGSQL.{port}"
    for directory in (temporary, Path("/tmp")):  # noqa: S108
        fits = len(os.fsencode(directory)) + len(name) <= SOCKET_PATH_BYTES
        if fits and (account is None or open_to_all(directory)):
            return directory
    raise ServerError(
        f"No socket can be created below {temporary}: its path is too long, or the "
        "server's user cannot reach it. Set TMPDIR to another directory."
    )


def open_to_all(directory: Path) -> bool:
    """Whether every user can reach *directory*."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))
