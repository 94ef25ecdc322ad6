"""Temporary directories that must be empty again, and programs that start quickly."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpubsub_sql import embedded
from pgpubsub_sql.embedded.binaries import BINARIES_VARIABLE, WHEEL, copy_installation
from pgpubsub_sql.embedded.posix import run_as
from pgpubsub_sql.embedded.workspace import open_to_all
from tests.embedded.support import ROOT, bin_in, installation, wheel_bin


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Directory for every temporary file of a test, which must be empty at its end."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    directory.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.delenv(BINARIES_VARIABLE, raising=False)
    try:
        yield directory
        assert list(directory.iterdir()) == []
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own is closed to all but one."""
    with tempfile.TemporaryDirectory(prefix="place-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def bare() -> Iterator[Path]:
    """A directory for PYTHONPATH: this package and the wheel, no Django, readable by everybody."""
    with tempfile.TemporaryDirectory(prefix="bare-", dir="/tmp") as name:
        target = Path(name)
        site = wheel_bin().parents[2]
        if open_to_all(site):
            (target / WHEEL).symlink_to(site / WHEEL)
        else:
            copy_installation(wheel_bin().parent, target)
        package = target / "pgpubsub_sql"
        package.mkdir()
        (package / "__init__.py").touch()
        source, no_cache = Path(embedded.__file__).parent, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, package / "embedded", ignore=no_cache)
        shutil.copy(source.with_name("errors.py"), package)
        for path in (target, package, *package.rglob("*")):
            path.chmod(0o755)
        yield target


@pytest.fixture(scope="session")
def quick_binaries(bare: Path) -> Iterator[Path]:
    """The same binaries, but with an initdb that copies a cluster made before."""
    with tempfile.TemporaryDirectory(prefix="quick-", dir="/tmp") as name:
        binaries, cluster = installation(Path(name) / "bin"), Path(name) / "cluster"
        Path(name).chmod(0o1777)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            # With small WAL files, a copy has half the size.
            [bin_in(bare) / "initdb", "-D", cluster, "--wal-segsize=1", *options],
            check=True,
            capture_output=True,
            cwd="/",
            **run_as(pwd.getpwnam("nobody") if ROOT else None),
        )
        (binaries / "postgres").unlink()
        (binaries / "postgres").symlink_to(bin_in(bare) / "postgres")
        (binaries / "initdb").write_text(f'#!/bin/sh\nexec cp -R {cluster} "$2"\n')
        yield binaries


@pytest.fixture
def quick(quick_binaries: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    """Use these binaries, in tests of processes and signals: initdb takes most of a start."""
    monkeypatch.setenv(BINARIES_VARIABLE, str(quick_binaries))
