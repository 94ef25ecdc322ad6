"""Programs that the server's user cannot reach are copied."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from pgpubsub_sql.embedded.accounts import UNPRIVILEGED_USER, identity
from pgpubsub_sql.errors import ServerError


def reachable_binaries(source: Path, account: pwd.struct_passwd | None, host: Path) -> Path:
    """Return ``source``, or a copy of its installation if the server's user cannot reach it."""
    if account is None or _runs(source, account):
        return source
    copy = copy_installation(source.parent, host / "copy")
    for path in copy.rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    os.chown(copy, account.pw_uid, account.pw_gid)
    return copy / source.parent.parent.name / source.parent.name / "bin"


def _runs(binaries: Path, account: pwd.struct_passwd) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, cwd="/", **identity(account)
        )
    except PermissionError:
        return False
    return result.returncode == 0


def copy_installation(prefix: Path, target: Path) -> Path:
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
