"""The users and signals of the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import sys
from typing import Any

from pgpubsub_sql.errors import ServerError

UNPRIVILEGED_USER = "nobody"
STOP_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


def server_account(data_dir: str | None) -> pwd.struct_passwd | None:
    """Return the user that the server must run as; None for the present one."""
    if os.geteuid() != 0:
        return None
    owner = _owner(data_dir)
    if owner == 0:
        raise ServerError(
            f"{data_dir} belongs to root, and PostgreSQL does not run as root. Name a directory "
            "that does not exist yet, or one of an unprivileged user."
        )
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER) if owner is None else pwd.getpwuid(owner)
    except KeyError as error:
        raise ServerError(f"PostgreSQL needs a user other than root. {error.args[0]}") from error


def _owner(directory: str | None) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(directory).st_uid if directory else None
    return None


def run_as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the arguments with which ``subprocess`` runs a program as *account*."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def ignore_signal(number: int, frame: object) -> None:
    """Do nothing. A signal needs a handler to reach a wakeup fd, and SIGCHLD to end ``sigwait``."""


def die_with_parent(number: signal.Signals) -> None:
    """Send this process *number* when its parent dies; on Linux only."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # <sys/prctl.h>
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
