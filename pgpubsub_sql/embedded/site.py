"""Where and as whom the server runs."""

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

from pgpubsub_sql.embedded.accounts import account_of, identity
from pgpubsub_sql.embedded.copies import reachable_binaries
from pgpubsub_sql.embedded.protocol import Plan
from pgpubsub_sql.embedded.signals import die_with_parent
from pgpubsub_sql.errors import ServerError

# The shortest limit of a unix socket's path is macOS's: 104 bytes, one of them the final NUL.
SOCKET_PATH_BYTES = 103


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where and as whom the server runs."""

    plan: Plan
    host: Path
    """Holds the socket and all that is temporary; belongs to the server's user."""
    binaries: Path
    account: pwd.struct_passwd | None
    """The server's user; None for the present one."""

    def options(self) -> dict[str, Any]:
        """Return how ``subprocess`` starts a program as the server's user."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
        return identity(self.account) | {
            "cwd": self.host,
            "env": inherited | {"LC_ALL": "C"},
            # Runs after the change of user, which would undo it, and in a child of a process with
            # one thread, whose end is therefore the end of the process.
            "preexec_fn": functools.partial(die_with_parent, signal.SIGINT),
        }


@contextlib.contextmanager
def open_site(plan: Plan) -> Iterator[Site]:
    account = account_of(plan)
    host = _new_host(plan, account)
    try:
        binaries = reachable_binaries(Path(plan.bin_dir), account, host)
        if account is not None:
            # Last: where this user may put links, root writes nothing.
            os.chown(host, account.pw_uid, account.pw_gid)
        yield Site(plan=plan, host=host, binaries=binaries, account=account)
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


def _new_host(plan: Plan, account: pwd.struct_passwd | None) -> Path:
    if not plan.host:
        return Path(tempfile.mkdtemp(prefix="pgpubsub-", dir=directory_for_sockets(plan, account)))
    os.mkdir(plan.host, mode=0o700)  # fails if somebody else has taken the name meanwhile
    return Path(plan.host)


def directory_for_sockets(plan: Plan, account: pwd.struct_passwd | None) -> Path:
    name = f"/pgpubsub-12345678/.s.PGSQL.{plan.port}"
    for directory in (Path(plan.temporary), Path("/tmp")):  # noqa: S108
        fits = len(os.fsencode(directory)) + len(name) <= SOCKET_PATH_BYTES
        if fits and (account is None or open_to_all(directory)):
            return directory
    raise ServerError(f"A socket below {plan.temporary} is not possible: set TMPDIR to another.")


def open_to_all(directory: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))
