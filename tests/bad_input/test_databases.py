"""Databases that are unreachable, not migrated or not PostgreSQL: commands say what to do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server
from tests.migrations.harness import Database, Project
from tests.migrations.versions import blog, channel, model, on

CHANNELS = """
from dataclasses import dataclass

@dataclass
class Ping(pgpubsub_sql.Channel):
    number: int

@dataclass
class Task(pgpubsub_sql.Channel):
    number: int
    lock_notifications = True

"""
LISTENERS = """
@pgpubsub_sql.listener("blog.Ping")
def hear(number): ...

@pgpubsub_sql.listener("blog.Task")
def do(number): ...

"""
BLOG = blog(
    models=model(), channels=CHANNELS + channel(), listeners=LISTENERS + on("insert", "delete")
)
COMMANDS = ["listen --drain", "pgpubsub ls", "pgpubsub verify", "pgpubsub sql"]
SQLITE = """
DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "lite.sqlite3"}
"""
NOTIFY = """
import pgpubsub_sql
from blog.channels import Ping, Task

sends = [
    lambda: pgpubsub_sql.notify(Ping, number=1),
    lambda: pgpubsub_sql.notify(Task(1)),
    lambda: pgpubsub_sql.notify_many([Ping(1), Task(2)]),
    lambda: pgpubsub_sql.process_stored_notifications(),
    lambda: pgpubsub_sql.notification_context({"a": 1}).__enter__(),
    lambda: pgpubsub_sql.ignore().__enter__(),
]
for send in sends[:COUNT]:
    try:
        send()
    except pgpubsub_sql.errors.NotReady as error:
        print(error)
"""


@pytest.fixture
def blogging(project: Project) -> Project:
    """A project with channels of every kind, and no migration yet."""
    project.write(BLOG)
    return project


def configure(project: Project, extra: str) -> None:
    base = f"from pathlib import Path\nBASE = Path({str(project.root)!r})\n"
    project.configure(base + extra, apps=("pgpubsub_sql", "blog"))


def refused(project: Project, command: str) -> str:
    """Run a command that must fail without a traceback, and return what it prints."""
    said = project.run(*command.split(), code=1)
    assert "CommandError: " in said
    assert "Traceback" not in said
    return said


def test_a_project_without_postgresql_works_except_for_commands_and_sending(
    blogging: Project,
) -> None:
    """Its models work as they would without this package."""
    configure(blogging, f"{SQLITE}\nDATABASES['default'] = DATABASES.pop('lite')")
    blogging.run("makemigrations")
    blogging.run("migrate")
    blogging.run("shell", "-c", "from blog.models import Author; Author.objects.create(name='x')")
    warned = blogging.run("check")
    assert "(pgpubsub_sql.W003) The trigger of blog.channels.Authors is not installed" in warned
    assert "'default', which is SQLite" in warned
    for command in COMMANDS:
        assert "The database 'default' is SQLite" in refused(blogging, command)
    said = blogging.run("shell", "-c", NOTIFY.replace("COUNT", "6"))
    # Sending is refused; contexts and ignore() have no effect without PostgreSQL.
    assert said.count("The database 'default' is SQLite") == 4
    assert said.count("name a PostgreSQL alias by using") == 4
    blogging.run("migrate", "blog", "zero")
    blogging.run("migrate", "pgpubsub_sql", "zero")


def test_another_alias_may_be_something_else_than_postgresql(blogging: Project) -> None:
    configure(blogging, SQLITE)
    blogging.run("makemigrations")
    for alias in ("default", "lite"):
        blogging.run("migrate", "--database", alias)
    assert blogging.catalogue().timed_events == {"after_insert", "after_delete"}
    assert "W003" not in blogging.run("check")
    for command in COMMANDS:
        assert "The database 'lite' is SQLite" in refused(blogging, f"{command} --database lite")
    send = "from pgpubsub_sql import notify; from blog.channels import Ping"
    said = blogging.run("shell", "-c", f"{send}; notify(Ping(1), using='lite')", code=1)
    assert "NotReady: The database 'lite' is SQLite" in said


def test_every_command_says_that_the_server_cannot_be_reached(blogging: Project) -> None:
    configure(blogging, "DATABASES['default']['HOST'] = '/nowhere'")
    for command in COMMANDS:
        said = refused(blogging, command)
        assert "The database 'default' cannot be reached. " in said
        assert "/nowhere" in said
        assert "or correct DATABASES in the settings" in said


GENERATED = "initial = models.GeneratedField(\n        " + (
    "expression=models.F('name'), output_field=models.TextField(), db_persist=True)"
)


def test_no_command_connects_to_a_database_it_is_not_about(project: Project) -> None:
    """Since Django 6.1, its check of generated columns would connect to all of them."""
    project.write(
        blog(
            models=model("Author", GENERATED),
            channels=CHANNELS + channel(),
            listeners=LISTENERS + on("insert"),
        )
    )
    project.run("makemigrations")
    project.run("migrate")
    configure(project, "DATABASES['away'] = DATABASES['default'] | {'HOST': '/nowhere'}")
    for command in COMMANDS[1:]:
        project.run(*command.split())
    for command in COMMANDS:
        said = refused(project, f"{command} --database away")
        assert "The database 'away' cannot be reached. " in said


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server that asks the role ``reader`` for a password."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        rules = Path(directory, "pg_hba.conf")
        rules.write_text("local all reader scram-sha-256\nlocal all all trust\n")
        with Server(settings={"fsync": "off", "hba_file": str(rules)}) as server:
            yield server


def test_every_command_says_that_the_password_is_wrong(blogging: Project, locked: Server) -> None:
    place = {"HOST": locked.host, "PORT": locked.port, "USER": "reader", "PASSWORD": "a guess"}
    configure(blogging, f"DATABASES['default'].update({place})")
    for command in COMMANDS:
        said = refused(blogging, command)
        assert 'password authentication failed for user "reader"' in said
        assert "a guess" not in said
        assert "or correct DATABASES in the settings" in said


def test_every_command_says_that_the_database_does_not_exist(blogging: Project) -> None:
    configure(blogging, "DATABASES['default']['NAME'] = 'erewhon'")
    for command in COMMANDS:
        assert 'database "erewhon" does not exist' in refused(blogging, command)


def test_every_command_says_that_migrations_are_missing(blogging: Project) -> None:
    for command in COMMANDS:
        said = refused(blogging, command)
        assert "The tables of pgpubsub_sql are" in said
        assert "Run: python manage.py migrate" in said


def test_sending_without_migrations_says_what_to_run(blogging: Project) -> None:
    said = blogging.run("shell", "-c", NOTIFY.replace("COUNT", "3"))
    assert said.count("The functions of pgpubsub_sql are missing in the database 'default'") == 3
    assert said.count("Run: python manage.py migrate") == 3


def test_every_command_refuses_an_unknown_alias(blogging: Project) -> None:
    for command in COMMANDS:
        said = blogging.run(*command.split(), "--database", "replica", code=2)
        assert "invalid choice: 'replica'" in said
        assert "default" in said


def test_a_role_without_execute_is_told_which_function_it_lacks(blogging: Project) -> None:
    """P14: an error of PostgreSQL that says enough is passed on."""
    blogging.run("makemigrations")
    blogging.run("migrate")
    Database("postgres").sql("CREATE ROLE sender LOGIN")
    try:
        configure(blogging, "DATABASES['default']['USER'] = 'sender'")
        said = blogging.run("shell", "-c", NOTIFY.replace("COUNT", "1"), code=1)
        assert "permission denied for function pgpubsub_publish_v1" in said
    finally:
        Database("postgres").sql("DROP ROLE sender")
