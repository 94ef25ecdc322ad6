"""Mistakes of newcomers, and what they are told."""

from __future__ import annotations

import pytest

from tests.migrations.harness import Project
from tests.migrations.versions import blog, channel, model, on

LISTENERS = "import pgpubsub_sql\n" + on("insert")


@pytest.fixture
def project(project: Project) -> Project:
    """An app with a trigger channel and its listener, not migrated."""
    project.write(blog(models=model(), channels=channel(), listeners=on("insert")))
    return project


def rename(project: Project, old: str, new: str) -> None:
    project.close()
    (project.root / old).rename(project.root / new)


# F36: what is not found.


@pytest.mark.parametrize(
    "name", ["listener.py", "listners.py", "Listeners.py", "listener/__init__.py"]
)
def test_a_misspelled_listeners_module_is_reported(project: Project, name: str) -> None:
    """F36: nothing was installed, and all agreed."""
    assert "W005" not in project.run("check")
    (project.root / "blog/listeners.py").unlink()
    project.write({f"blog/{name}": LISTENERS})
    output = project.run("check")
    assert "pgpubsub_sql.W005" in output
    assert f"{project.root / 'blog' / name} is not imported" in output
    assert "Rename it to listeners.py" in output
    assert "pgpubsub_sql.W006" in output
    assert "blog.channels.Authors has no listener, so no trigger is installed" in output
    project.run("migrate", "-v0")
    assert f"{project.root / 'blog' / name} is not imported" in project.start_all(
        "pgpubsub", "verify"
    )


def test_a_misspelled_channels_module_is_reported(project: Project) -> None:
    """F36."""
    project.write({"blog/listeners.py": ""})
    rename(project, "blog/channels.py", "blog/channel.py")
    output = project.run("check")
    assert "blog/channel.py is not imported" in output
    assert "Rename it to channels.py" in output


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("blog/listener.py", "# of another package\n"),
        ("blog/lists.py", "import pgpubsub_sql\n"),
        ("blog/tests.py", LISTENERS),
    ],
)
def test_modules_with_other_names_are_not_reported(
    project: Project, name: str, source: str
) -> None:
    project.write({name: source})
    assert "pgpubsub_sql.W" not in project.run("check")


def test_a_module_that_the_app_imports_itself_is_not_reported(project: Project) -> None:
    rename(project, "blog/listeners.py", "blog/listener.py")
    project.write(
        {
            "blog/apps.py": "from django.apps import AppConfig\n"
            "class Blog(AppConfig):\n"
            "    name = 'blog'\n"
            "    def ready(self):\n"
            "        import blog.listener\n"
        }
    )
    assert "pgpubsub_sql.W" not in project.run("check")


def test_listeners_beside_the_settings_are_reported(project: Project) -> None:
    """F36: the package of a project is no app."""
    rename(project, "blog/listeners.py", "project/listeners.py")
    output = project.run("check")
    assert "project/listeners.py is not imported: 'project' is not an installed app." in output
    assert 'add "project" to INSTALLED_APPS' in output


@pytest.mark.parametrize("mistake", ["import nothing_of_this_name\n", "1 / 0\n"])
def test_a_module_that_fails_to_import_raises_its_error(project: Project, mistake: str) -> None:
    """F36: Django's own rule for what is found by itself: it raises."""
    project.write({"blog/listeners.py": mistake})
    output = project.start_all("check", code=1)
    assert "blog/listeners.py" in output
    assert output.rstrip().splitlines()[-1].startswith(("ModuleNotFoundError", "ZeroDivisionError"))


def test_base_classes_need_no_listener(project: Project) -> None:
    source = (project.root / "blog/channels.py").read_text()
    bases = "class Base(pgpubsub_sql.TriggerChannel):\n    lock_notifications = True\n"
    project.write({"blog/channels.py": source.replace("@dataclass", f"{bases}@dataclass")})
    assert "pgpubsub_sql.W" not in project.run("check")


# F62: what is not there.


def test_checks_can_be_selected_by_our_tag(project: Project) -> None:
    """F62: --tag pgpubsub_sql was unknown."""
    assert "no issues" in project.run("check", "--tag", "pgpubsub_sql")
    rename(project, "blog/listeners.py", "blog/listener.py")
    assert "W005" in project.run("check", "--tag", "pgpubsub_sql")


def test_commands_say_that_the_app_is_not_installed(project: Project) -> None:
    """F62: "No installed app with label 'pgpubsub_sql'" did not say what to do."""
    project.configure(apps=["blog"])
    remedy = 'Add "pgpubsub_sql" to INSTALLED_APPS.'
    send = "import pgpubsub_sql; from blog.channels import Mail; pgpubsub_sql.notify(Mail, to='x')"
    project.write(
        {
            "blog/channels.py": "from dataclasses import dataclass\nimport pgpubsub_sql\n"
            "@dataclass\nclass Mail(pgpubsub_sql.Channel):\n    to: str\n",
            "blog/listeners.py": "",
        }
    )
    assert remedy in project.run("shell", "-c", send, code=1)
    assert remedy in project.run("shell", "-c", "from pgpubsub_sql import Notification", code=1)
    models = (project.root / "blog/models.py").read_text()
    project.write({"blog/models.py": f"{models}\nimport blog.channels\n"})
    output = project.run("check", code=1)
    assert "pgpubsub_sql.E102" in output
    assert remedy in output


UNREACHABLE = {
    "no server": {"HOST": "/nowhere"},
    "no database": {"NAME": "no_database_of_this_name"},
    "no role": {"USER": "nobody_of_this_name"},
}


@pytest.mark.parametrize("values", UNREACHABLE.values(), ids=UNREACHABLE)
@pytest.mark.parametrize(
    "argv",
    [
        ["check", "--database", "default"],
        ["migrate"],
        ["pgpubsub", "status"],
        ["listen", "--drain"],
    ],
)
def test_an_unreachable_database_is_reported_in_one_line(
    project: Project, argv: list[str], values: dict[str, str]
) -> None:
    """F62: ``check --database`` and ``migrate`` showed a traceback of 60 lines."""
    project.configure(f'DATABASES["default"] |= {values}', apps=["pgpubsub_sql", "blog"])
    output = project.run(*argv, code=1)
    (line,) = [line for line in output.splitlines() if "cannot be reached" in line]
    assert "Start its server, or correct DATABASES in the settings." in line
    assert "Traceback" not in output
