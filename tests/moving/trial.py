"""``python -m tests.moving.trial DIRECTORY``: a whole move from django-pgpubsub 1.3.1, and back.

A project with four channels, a filter, waiting messages, and a writer that never stops, follows the
guide. Nothing may be lost, nothing handled twice, and no write may fail. It needs PyPI.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from pgpubsub_sql.embedded import Server
from tests.ecosystem.environments import environment
from tests.moving.project import FILES

ROOT = Path(__file__).resolve().parent.parent.parent
WITHOUT_PSYCOPG3 = ROOT / "tests" / "conformance" / "without_psycopg3"
THEIRS = ("django-pgpubsub==1.3.1", "django-pgtrigger==4.17.0", "Django==5.2.19", "libcst>=1.5")
DEADLINE_SECONDS = 60.0
NEVER_HANDLED = 3
"""Messages of their notify() on a durable channel, which their workers cannot find."""


def main() -> None:
    """Move there and back, and there for good."""
    parser = argparse.ArgumentParser(prog="python -m tests.moving.trial")
    parser.add_argument("directory", type=Path, help="where all of it is kept")
    directory = parser.parse_args().directory.absolute()
    python = environment(directory / "environment", THEIRS)
    with Server(settings={"fsync": "off"}) as server:
        move = Move(directory / "project", python, server.environment())
        move.begin()
        with move.writing():
            move.forwards()
            move.back()
            move.forwards_again()
        move.end()
    print("Nothing was lost, nothing was handled twice, and no write failed.")


class Move:
    """A project in two versions, its database and its processes."""

    def __init__(self, directory: Path, python: Path, address: dict[str, str]) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self.old, self.new = directory / "old", directory / "new"
        self._python = python
        paths = os.pathsep.join([str(WITHOUT_PSYCOPG3), str(ROOT)])
        self._environment = {**os.environ, **address, "PYTHONPATH": paths, "WORKER": ""}
        self._connection = psycopg2.connect(
            host=address["PGHOST"],
            port=address["PGPORT"],
            user=address["PGUSER"],
            dbname=address["PGDATABASE"],
        )
        self._connection.autocommit = True
        self._logs = 0
        self._written = 0

    # --- The steps

    def begin(self) -> None:
        """Make the old project, with messages that wait."""
        for name, source in FILES.items():
            file = self.old / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source.lstrip("\n"))
        self.manage(self.old, "makemigrations", "shop")
        self.manage(self.old, "migrate")
        self.sql(
            "INSERT INTO shop_author (name) SELECT 'waiting ' || n FROM generate_series(1, 20) n"
        )
        self.sql("INSERT INTO shop_author (name) VALUES ('filtered out')")
        for number in range(NEVER_HANDLED):
            self.shell(self.old, f"notify(Reads, number={number}, date=datetime.date(2026, 1, 1))")
        say("made the old project")

    def forwards(self) -> None:
        """Follow the guide, with workers of both running."""
        shutil.copytree(self.old, self.new)
        with self.working(self.old, "old"):
            self.await_handled(by="old")
            self._rewrite()
            self.manage(self.new, "makemigrations")
            self._merge()
            self.manage(self.new, "migrate", "pgpubsub_sql")
            with self.working(self.new, "new"):
                self.manage(self.new, "migrate")
                self.await_handled(by="new")
                say("migrated, with workers of both")
                self.shell(self.new, "notify(Reads, number=100, date=datetime.date(2026, 1, 1))")
                self.await_row("read 100")
                self.refuse("adopt", "--drop", "--noinput", because="pgpubsub_notification")
        report = self.manage(self.new, "pgpubsub", "adopt", "--json")
        assert '"what": "park"' in report, report
        say("adopted what was left")
        with self.working(self.new, "new"):
            self.await_sql("SELECT count(*) = 0 FROM pgpubsub_notification")
            self.await_waiting_handled()
        self.manage(self.new, "pgpubsub", "verify")

    def back(self) -> None:
        """Go back, with whatever is stored."""
        self.sql(
            "ALTER TABLE pgpubsub_notification DROP CONSTRAINT pgpubsub_notification_db_version_fk"
        )
        self.manage(self.new, "migrate", "audit", "zero")
        self.manage(self.new, "migrate", "shop", "0001")
        self.manage(self.new, "pgpubsub", "adopt", "--back", "--noinput")
        with self.working(self.old, "old again", "--recover"):
            self.await_handled(by="old again")
        say("went back")

    def forwards_again(self) -> None:
        """Move for good."""
        self.manage(self.new, "migrate")
        self.manage(self.new, "pgpubsub", "adopt")
        with self.working(self.new, "new again"):
            self.await_handled(by="new again")
        say("moved again")

    def end(self) -> None:
        """Handle what is left, and compare what was handled with what was written."""
        with self.working(self.new, "new at last"):
            self.await_sql("SELECT count(*) = %s FROM pgpubsub_sql_notification", NEVER_HANDLED + 1)
        (parked,) = self.sql(
            "SELECT count(*) FROM pgpubsub_sql_notification WHERE available_at IS NULL"
        )
        assert parked == (NEVER_HANDLED,), parked
        self._compare()
        self.manage(self.new, "pgpubsub", "adopt", "--drop", "--noinput")
        self.sql("INSERT INTO shop_author (name) VALUES ('after the end')")
        self.manage(self.new, "pgpubsub", "verify")

    def _compare(self) -> None:
        written = {
            f"{table} {n}" for table in ("author", "post") for n in range(1, self._written + 1)
        }
        written |= {f"waiting {n}" for n in range(1, 21)} | {"read 100"}
        handled = [what for (what,) in self.sql("SELECT what FROM shop_handled")]
        assert not (lost := written - {*handled}), f"lost: {sorted(lost)[:10]} of {len(lost)}"
        assert len(handled) == len({*handled}), "handled twice"
        assert {*handled} == written, {*handled} - written
        by = self.sql("SELECT by, count(*) FROM shop_handled GROUP BY by ORDER BY by")
        say(f"{self._written} pairs of rows written; handled by {dict(by)}")

    # --- The source

    def _rewrite(self) -> None:
        """Rewrite the new version by the program, which must leave nothing to do."""
        program = [self._python, "-m", "pgpubsub_sql.moving", str(self.new), "--write"]
        done = subprocess.run(
            program, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.manage(self.new, "check")

    def _merge(self) -> None:
        """Have one migration replace the trigger on a model of another app, as the guide says."""
        (file,) = (self.new / "shop" / "migrations").glob("0002_*.py")
        source = file.read_text()
        pattern = (
            r"( +)(pgtrigger\.migrations\.RemoveTrigger\(\s+model_name=['\"]post['\"].*?\),)\n"
        )
        merged = r"\1migrations.SeparateDatabaseAndState(state_operations=[\2]),\n"
        source, number = re.subn(pattern, merged, source, flags=re.DOTALL)
        assert number == 1, source
        file.write_text(source)
        ((trigger, created),) = self.sql(
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgrelid = 'shop_post'::regclass AND NOT tgisinternal"
        )
        (file,) = (self.new / "audit" / "migrations").glob("0001_*.py")
        dropped = f"migrations.RunSQL('DROP TRIGGER {trigger} ON shop_post', {created!r}),"
        file.write_text(file.read_text().replace("operations = [", f"operations = [\n{dropped}", 1))

    # --- Processes

    def manage(self, project: Path, *arguments: str) -> str:
        """Run a command, which must succeed, and return what it prints."""
        done = self._run(project, arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def refuse(self, *arguments: str, because: str) -> None:
        """Run a subcommand of the new project, which must be refused."""
        done = self._run(self.new, ("pgpubsub", *arguments))
        assert done.returncode != 0, done.stdout
        assert because in done.stderr, done.stderr

    def shell(self, project: Path, statement: str) -> None:
        """Execute Python in a version of the project, as a web process does."""
        package = "pgpubsub" if project == self.old else "pgpubsub_sql"
        program = f"import datetime\nfrom {package} import notify\nfrom shop.channels import *\n"
        self.manage(project, "shell", "-c", program + statement)

    def _run(self, project: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._python, "manage.py", *arguments],
            cwd=project,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def working(self, project: Path, name: str, *options: str) -> Iterator[None]:
        """Have a worker run meanwhile."""
        environment = {**self._environment, "WORKER": name}
        command = [self._python, "manage.py", "listen", "--worker", *options]
        with self._running(command, project, environment) as (process, log):
            self.wait(
                lambda: "istening" in log.read_text() or process.poll() is not None, log.read_text
            )
            yield
            assert process.poll() is None, log.read_text()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Have the writer run meanwhile; none of its writes may fail."""
        command = [self._python, "writer.py"]
        with self._running(command, self.old, self._environment) as (process, log):
            yield
            process.terminate()
            process.wait(DEADLINE_SECONDS)
            self._written, failed = map(int, log.read_text().splitlines()[-1].split())
            assert failed == 0, log.read_text()

    @contextmanager
    def _running(
        self, command: list[Any], project: Path, environment: dict[str, str]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        self._logs += 1
        log = project.parent / f"log-{self._logs}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=project, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_SECONDS)

    # --- The database

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement, and return its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def await_handled(self, *, by: str) -> None:
        """Wait until a worker of this name has handled something of each table."""
        self.await_sql(
            "SELECT count(DISTINCT split_part(what, ' ', 1)) >= 2 FROM shop_handled WHERE by = %s",
            by,
        )

    def await_row(self, what: str) -> None:
        """Wait until something is handled."""
        self.await_sql("SELECT count(*) = 1 FROM shop_handled WHERE what = %s", what)

    def await_waiting_handled(self) -> None:
        """Wait until what had waited from the beginning is handled."""
        self.await_sql("SELECT count(*) = 20 FROM shop_handled WHERE what LIKE 'waiting %'")

    def await_sql(self, query: str, *values: object) -> None:
        """Wait until a query says yes."""
        self.wait(lambda: self.sql(query, *values)[0][0], lambda: f"{query} {values}")

    def wait(self, condition: Callable[[], object], problem: Callable[[], str]) -> None:
        """Wait until *condition* holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, problem()
            time.sleep(0.05)


def say(what: str) -> None:
    """Tell who waits."""
    print(f"{what[0].upper()}{what[1:]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
