"""The server's log: a new one, and the end of one."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

LOG_TAIL_LINES = 25


def new_log(directory: Path, account: pwd.struct_passwd | None) -> Path:
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


def tail_of(text: str, title: str) -> str:
    lines = text.rstrip().splitlines()[-LOG_TAIL_LINES:]
    return "\n".join((f" {title}:", *(f"    {line}" for line in lines or ["(it is empty)"])))
