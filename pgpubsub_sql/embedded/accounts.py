"""As whom the server runs."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Any

from pgpubsub_sql.embedded.protocol import Plan
from pgpubsub_sql.errors import ServerError

UNPRIVILEGED_USER = "nobody"


def account_of(plan: Plan) -> pwd.struct_passwd | None:
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


def identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
