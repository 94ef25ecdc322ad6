"""Test projects that go through several versions, each with its own database.

::

    project.write(blog(models=AUTHOR, channels=CHANNEL, listeners=on("insert")))
    project.run("makemigrations")
    project.run("migrate")
    assert project.catalogue().timed_events == {"after_insert"}

Every ``migrate`` also asserts what ``watching.py`` says.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from pgpubsub_sql.sql import quote_identifier
from tests.conftest import ROOT

Files = Mapping[str, str]
"""Sources by their path in the project."""

_numbers = itertools.count(1)

COMMANDS = Path(__file__).with_name("commands.py")
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "project.settings"}

SETTINGS = """
SECRET_KEY = "of a test"
USE_TZ = True
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = {apps!r}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": {database!r}}}}}
"""

CATALOGUE = """
SELECT 'function', NULL, pg_proc.oid::regprocedure::text, proname,
    pg_get_functiondef(pg_proc.oid) || coalesce(proacl::text, ''), prosrc
FROM pg_proc WHERE starts_with(proname, 'pgpubsub_channel_')
UNION ALL
SELECT 'trigger', tgrelid::regclass::text, tgname, proname,
    pg_get_triggerdef(pg_trigger.oid), prosrc
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Installed:
    """One function or trigger that PostgreSQL has, whoever put it there."""

    kind: str
    table: str | None
    name: str
    function: str
    definition: str
    source: str

    @property
    def channel(self) -> str:
        """The channel that the function's body names."""
        name: str = json.loads(self.source.splitlines()[1].removeprefix("-- pgpubsub_sql "))[
            "channel"
        ]
        return name


class Catalogue(frozenset[Installed]):
    """The functions of channels, and every trigger of a database."""

    @property
    def timed_events(self) -> set[str]:
        """What is listened to, such as ``after_insert``."""
        names = [one.name for one in self if one.kind == "trigger"]
        return {"_".join(name.rsplit("_", 2)[1:]) for name in names}

    @property
    def tables(self) -> set[str | None]:
        """The tables that have a trigger."""
        return {one.table for one in self if one.kind == "trigger"}

    @property
    def functions(self) -> set[str]:
        """The functions of channels, as PostgreSQL spells them."""
        return {one.name for one in self if one.kind == "function"}


class Database:
    """A database on the session's server."""

    def __init__(self, name: str = "") -> None:
        self.name = name or f"project_{os.getpid()}_{next(_numbers)}"
        if not name:
            Database("postgres").sql(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        """Leave nothing behind."""
        Database("postgres").sql(f"DROP DATABASE {self.name} WITH (FORCE)")

    def sql(self, statement: str, *parameters: Any, user: str | None = None) -> list[Any]:
        """Run a statement, as plain SQL does it, and return its rows."""
        with self.connect(**({"user": user} if user else {})) as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def connect(self, **options: Any) -> Iterator[Any]:
        """Open a connection that commits each statement, and return a cursor."""
        connection = psycopg2.connect(dbname=self.name, **options)
        try:
            connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def catalogue(self) -> Catalogue:
        """Return what is installed."""
        with self.connect() as cursor:
            return _catalogue(cursor)

    def stored(self) -> list[tuple[str, str]]:
        """Return channel and operation of what was stored, and forget it."""
        with self.connect() as cursor:
            return _stored(cursor)

    def told(self, *writes: str, table: str | None = None) -> list[tuple[str, str]]:
        """Return channel and operation of all that *writes* send, stored or not, and forget it.

        Nothing is written if there is no such *table*.
        """
        with self.connect() as cursor:
            if table and not _has(cursor, table):
                return []
            for channel in sorted({one.channel for one in _catalogue(cursor) if not one.table}):
                cursor.execute(f"LISTEN {quote_identifier(channel)}")
            for write in writes:
                cursor.execute(write)
            stored = _stored(cursor)
            heard = [(one.channel, one.payload) for one in cursor.connection.notifies]
        sent = [(channel, json.loads(payload)["op"]) for channel, payload in heard if payload]
        return stored + sent

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        with self.connect() as cursor:
            return _has(cursor, table)


def _catalogue(cursor: Any) -> Catalogue:
    cursor.execute(CATALOGUE)
    return Catalogue(Installed(*row) for row in cursor.fetchall())


def _has(cursor: Any, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
    return bool(cursor.fetchone()[0])


def _stored(cursor: Any) -> list[tuple[str, str]]:
    if not _has(cursor, "pgpubsub_sql_notification"):
        return []
    cursor.execute(
        "WITH gone AS (DELETE FROM pgpubsub_sql_notification RETURNING *)"
        "SELECT channel, payload->>'op' FROM gone ORDER BY id"
    )
    return list(cursor.fetchall())


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    output: str


class Commands:
    """The server that runs the commands of all projects, each version in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self._address = str(directory / "commands")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self._address)
        self._listening.listen()
        self._process = subprocess.Popen(
            # Warnings are errors here, too.
            [sys.executable, "-P", "-W", "error", str(COMMANDS), str(self._listening.fileno())],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            pass_fds=[self._listening.fileno()],
        )

    def connect(self, root: Path) -> TextIO:
        """Start a process for what is at *root* now, and return what talks to it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            process = connection.makefile("rw")
        print(json.dumps({"root": str(root), "environment": ENVIRONMENT}), file=process)
        return process

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._listening.close()


class Project(Database):
    """A Django project, its database, and the process that runs its commands."""

    def __init__(
        self, root: Path, commands: Commands, *, apps: Iterable[str] = ("pgpubsub_sql", "blog")
    ) -> None:
        super().__init__()
        self.root = root
        self._commands = commands
        self._process: TextIO | None = None
        self.write({"project/__init__.py": "", "project/urls.py": "urlpatterns = []"})
        self.configure(apps=apps)

    def configure(self, extra: str = "", *, apps: Iterable[str]) -> None:
        """Write the settings."""
        settings = SETTINGS.format(apps=list(apps), database=self.name)
        self.write({"project/settings.py": settings + textwrap.dedent(extra)})

    def write(self, files: Files) -> None:
        """Write the next version of these files; what runs after this sees it."""
        self.close()
        for path, source in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")

    def run(self, *argv: str, answers: str = "", code: int | None = 0) -> str:
        """Run ``manage.py`` with these arguments, demand its exit status, return its output."""
        result = self._execute(argv, answers)
        assert code in (result.code, None), f"{' '.join(argv)}: exit {result.code}\n{result.output}"
        return result.output

    def start(self, *argv: str, **environment: str) -> str:
        """Run ``manage.py`` in a process of its own, as people do, and return its output."""
        done = self._start(*argv, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root}{os.pathsep}{ROOT}"
        return subprocess.run(
            [sys.executable, "-P", "-W", "error", "-m", "django", *argv],
            cwd=self.root,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start_all(self, *argv: str, code: int = 0, **environment: str) -> str:
        """Run ``manage.py`` in a process of its own, and return all that it wrote."""
        done = self._start(*argv, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def plan(self) -> list[tuple[str, str]]:
        """Return app and name of the migrations that there are, in their order."""
        shown = self.run("showmigrations", "--plan")
        return [
            tuple(line.split()[-1].split(".")) for line in shown.splitlines() if line[:1] == "["
        ]

    def migrations(self, label: str = "blog") -> list[str]:
        """Return the names of the migrations written so far."""
        return sorted(file.stem for file in (self.root / label / "migrations").glob("0*.py"))

    def latest(self, label: str = "blog") -> str:
        """Return the source of the latest migration."""
        return self.source(label, self.migrations(label)[-1])

    def source(self, label: str, name: str) -> str:
        """Return the source of a migration."""
        return (self.root / label / "migrations" / f"{name}.py").read_text(encoding="utf-8")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _execute(self, argv: Iterable[str], answers: str) -> Result:
        process = self._process = self._process or self._commands.connect(self.root)
        print(json.dumps({"argv": argv, "answers": answers}), file=process, flush=True)
        line = process.readline()
        assert line, f"{' '.join(argv)}: the process has ended"
        return Result(**json.loads(line))
