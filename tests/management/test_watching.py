"""Which files ``listen --reload`` looks at, and what counts as a change."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.utils.autoreload import autoreload_started

from pgpubsub_sql.management.watching import Files, own_files

PACKAGE = Path(__file__).resolve().parents[2] / "pgpubsub_sql"
LATER = 2_000_000_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of ``sys.path`` with the packages "shop" and "venv", which is none."""
    for file in ("shop/__init__.py", "shop/deep/down.py", "venv/lib/other.py", "manage.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def change(file: Path) -> None:
    file.touch()
    os.utime(file, (LATER, LATER))


def test_own_code_is_what_is_not_installed(root: Path) -> None:
    found = set(own_files())
    assert {root / "manage.py", root / "shop/__init__.py", root / "shop/deep/down.py"} <= found
    assert root / "venv/lib/other.py" not in found
    assert PACKAGE / "worker" / "worker.py" in found  # an app, and not installed here
    assert not any("site-packages" in file.parts for file in found)


def test_a_changed_file_and_a_new_one_are_found_once(root: Path) -> None:
    files = Files()
    assert files.changed() == []
    change(root / "shop/deep/down.py")
    change(root / "shop/deep/new.py")
    assert sorted(files.changed()) == [root / "shop/deep/down.py", root / "shop/deep/new.py"]
    assert files.changed() == []


def test_a_package_that_comes_later_is_found(root: Path) -> None:
    files = Files()
    (root / "news").mkdir()
    change(root / "news/__init__.py")
    assert files.changed() == [root / "news/__init__.py"]


def test_a_module_that_is_only_loaded_later_is_no_change(root: Path) -> None:
    import importlib

    (root / "lazily_loaded.py").touch()
    os.utime(root / "lazily_loaded.py", (1, 1))
    files = Files()
    importlib.import_module("lazily_loaded")
    assert files.changed() == []


def test_a_link_to_nothing_and_a_file_that_goes_are_no_change(root: Path) -> None:
    files = Files()
    (root / "shop/.#down.py").symlink_to("somebody@somewhere")
    (root / "shop/deep/down.py").unlink()
    assert files.changed() == []


def test_installed_modules_are_looked_at_if_they_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library that somebody edits in place, as runserver would see it."""
    files = Files()
    library = Path(msgspec.__file__).resolve()
    monkeypatch.setitem(files._seen, library, 0.0)
    assert files.changed() == [library]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Path]:
    """A file that a project has Django watch."""
    file = tmp_path / "prices.yaml"
    file.touch()

    def watch(sender: Any, **named: object) -> None:
        sender.watch_dir(tmp_path, "*.yaml")

    autoreload_started.connect(watch)
    yield file
    autoreload_started.disconnect(watch)


def test_what_the_project_has_django_watch_counts(watched: Path) -> None:
    files = Files()
    change(watched)
    assert files.changed() == [watched]
