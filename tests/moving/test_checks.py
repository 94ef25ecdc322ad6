"""Checks of code that still uses django-pgpubsub, or expects what it did."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps

import pgpubsub_sql
from pgpubsub_sql import checks
from tests.migrations.harness import Project
from tests.migrations.versions import AUTHOR, blog
from tests.registries import blank

__all__ = ["blank"]
pytestmark = pytest.mark.usefixtures("blank")


def found() -> list[tuple[str, str]]:
    return [
        ((one.id or "").removeprefix("pgpubsub_sql."), f"{one.msg} {one.hint}")
        for one in checks.check_predecessor_code()
    ]


def test_nothing_is_found_where_nothing_is_left() -> None:
    assert found() == []


def test_listeners_that_were_left_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """M14: an import that was not changed passed, while both were installed."""

    class AuthorChannel:
        pass

    def welcome() -> None:
        pass

    theirs: Any = ModuleType("pgpubsub.channel")
    theirs.registry = {AuthorChannel: [welcome]}
    monkeypatch.setitem(sys.modules, "pgpubsub.channel", theirs)
    ((identifier, message),) = found()
    assert identifier == "W007"
    assert "welcome listens to" in message
    assert "AuthorChannel with django-pgpubsub" in message


@pytest.mark.parametrize(
    ("method", "remedy"),
    [
        (classmethod(lambda cls: "authors"), "channel_name"),
        (staticmethod(lambda: "authors"), "channel_name"),
        (lambda self: "authors", "channel_name"),
    ],
)
@pytest.mark.parametrize("name", ["name", "listen_safe_name", "serialize", "deserialize"])
def test_methods_that_nobody_calls_are_named(name: str, method: Any, remedy: str) -> None:
    """M8: they were silently ignored."""

    class Mixin:
        pass

    setattr(Mixin, name, method)
    type("Authors", (Mixin, pgpubsub_sql.Channel), {})
    ((identifier, message),) = found()
    assert identifier == "W008"
    assert f"defines {name}(), which django-pgpubsub called" in message
    assert (remedy in message) == (name in ("name", "listen_safe_name"))


def test_a_field_called_name_is_no_method() -> None:
    type("Authors", (pgpubsub_sql.Channel,), {"__annotations__": {"name": str}, "name": "Ann"})
    assert found() == []


@pytest.mark.parametrize("order", [["pgpubsub", "pgpubsub_sql"], ["pgpubsub_sql", "pgpubsub"]])
def test_two_commands_of_one_name_are_named(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M16: the first app's command wins, and the other's channels go unserved."""

    class Config:
        def __init__(self, name: str) -> None:
            self.name = name

    monkeypatch.setattr(apps, "is_installed", lambda name: True)
    monkeypatch.setattr(apps, "get_app_configs", lambda: [Config(name) for name in order])
    identifier, message = found()[-1]
    assert identifier == "W009"
    assert f"manage.py listen is that of {order[0]}," in message


DEPENDENT = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ("pgpubsub", "0001_initial")]
    operations = []
"""


def test_migrations_that_depend_on_theirs_are_named(project: Project) -> None:
    """M6: Django's NodeNotFoundError says nothing of a remedy."""
    project.write(blog(models=AUTHOR))
    project.run("makemigrations", "blog")
    project.write({"blog/migrations/0002_dependent.py": DEPENDENT})
    output = project.run("makemigrations", code=1)
    assert "The migration blog.0002_dependent depends on one of django-pgpubsub" in output
    assert '"pgpubsub_sql.compat"' in output
    project.configure(apps=["pgpubsub_sql", "pgpubsub_sql.compat", "blog"])
    project.run("migrate")


CHANNELS = """
import pgpubsub_sql
from blog.models import Author

class Authors(pgpubsub_sql.TriggerChannel):
    model = Author

@pgpubsub_sql.post_insert_listener(Authors)
def welcome(new): ...
"""


def test_no_migration_is_written_for_a_channel_outside_every_app(
    project: Project, new_project: Callable[..., Project]
) -> None:
    """M12: a migration removed the old trigger, and none added a new one."""
    files = blog(models=AUTHOR, listeners="import loose.channels")
    project.write({**files, "loose/__init__.py": "", "loose/channels.py": CHANNELS})
    output = project.run("makemigrations", "blog", code=1)
    assert "pgpubsub_sql.E011" in output
    assert project.migrations() == []
