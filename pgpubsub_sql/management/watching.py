"""The files of a project, and which of them have changed: for ``listen --reload``."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps

from pgpubsub_sql.django_internals import watched_files

logger = logging.getLogger("pgpubsub_sql.supervisor")

_LEFT_OUT = ("__pycache__", "node_modules")
_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()


class Files:
    """What a project's code consists of.

    These are the files of all loaded modules, what receivers of Django's ``autoreload_started``
    add, such as templates, and each Python file of the project's own directories, as workers load
    modules that this process does not, and new ones may come.
    """

    def __init__(self) -> None:
        self._reloader = watched_files()
        self._started = time.time()
        self._seen: dict[Path, float] = {}
        self.changed()

    def changed(self) -> list[Path]:
        """Return the files that have changed, or are new, since the last call."""
        try:
            now = self._look()
        except OSError as error:  # such as a directory that has gone while it was read
            logger.warning("Files cannot be looked at now: %s; trying again", error)
            return []
        found = [path for path, at in now.items() if at > self._seen.get(path, self._started)]
        self._seen |= now
        return found

    def _look(self) -> dict[Path, float]:
        """Return when each file was last changed."""
        return dict(self._reloader.snapshot_files()) | dict(_times(own_files()))


def own_files() -> Iterator[Path]:
    """Yield the Python files of the project's apps, and those beside them on ``sys.path``."""
    roots = [root for entry in sys.path if _is_own(root := Path(entry).resolve())]
    packages = {found.parent for root in roots for found in root.glob("*/__init__.py")}
    packages |= {path for app in apps.get_app_configs() if _is_own(path := Path(app.path))}
    for root in roots:
        yield from root.glob("*.py")
    for package in packages:
        yield from _python_files(package)


def _python_files(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        kept = [one for one in directories if not (one.startswith(".") or one in _LEFT_OUT)]
        directories[:] = kept
        yield from (Path(parent, name) for name in files if name.endswith(".py"))


def _is_own(directory: Path) -> bool:
    """Whether a directory is neither Python's nor one of packages that were installed."""
    is_installed = not _INSTALLED.isdisjoint(directory.parts)
    return not is_installed and not directory.is_relative_to(_STANDARD) and directory.is_dir()


def _times(paths: Iterator[Path]) -> Iterator[tuple[Path, float]]:
    for path in paths:
        try:
            yield path, path.stat().st_mtime
        except OSError:  # it has gone, or is a link to nothing, as editors make them for a moment
            continue
