"""``manage.py pgpubsub install | uninstall | enable | disable | prune``."""

from __future__ import annotations

import pytest

from tests.management.projects import FUNCTION, INSERT, leave_over, of_another, rows, state
from tests.migrations.harness import Project
from tests.migrations.versions import on


def test_install_changes_nothing_if_everything_is_installed(project: Project) -> None:
    before = project.catalogue()
    assert "Everything is installed already." in project.run("pgpubsub", "install")
    assert project.catalogue() == before


def test_install_ignores_migrations_that_have_not_run(project: Project) -> None:
    """Code that is ahead of its migrations may name columns that do not exist yet."""
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    project.run("makemigrations", "blog")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    project.run("pgpubsub", "install")
    assert project.catalogue().timed_events == {"after_insert"}


def test_a_function_of_another_project_is_never_changed(project: Project) -> None:
    """T4, F8: a function of another app, on another table, has the name that ours needs."""
    project.run("pgpubsub", "uninstall", "--all", "--noinput")
    of_another("shop", "blog.Authors", FUNCTION, project)
    before = project.catalogue()
    assert state(project) == "foreign"
    (problem,) = rows(project, "verify", code=1)
    assert "belongs to the channel blog.Authors of the app 'shop'" in problem["text"]
    assert "not replaced" in project.run("pgpubsub", "install", code=1)
    for argv in (
        ("uninstall", "--all", "--noinput"),
        ("disable", "--all", "--noinput"),
        ("prune",),
    ):
        project.run("pgpubsub", *argv)
    assert project.catalogue() == before


def test_install_leaves_the_triggers_of_a_renamed_table_alone(project: Project) -> None:
    """F1: install dropped them, and said that everything was installed."""
    project.sql("ALTER TABLE blog_author RENAME TO renamed")
    assert state(project) == "tableless"
    (problem,) = rows(project, "verify", code=1)
    assert "watches a table that does not exist" in problem["text"]
    before = project.catalogue()
    assert "Everything is installed already." in project.run("pgpubsub", "install")
    assert project.catalogue() == before
    project.sql("ALTER TABLE renamed RENAME TO blog_author")
    assert rows(project, "verify") == []


def test_a_disabled_channel_sends_nothing_until_enabled(project: Project) -> None:
    project.run("pgpubsub", "disable", "blog.Authors", "--noinput")
    assert project.told(INSERT) == []
    project.run("pgpubsub", "enable", "blog.Authors")
    assert project.told(INSERT) == [("blog.Authors", "INSERT")]


def test_install_restores_what_uninstall_dropped(project: Project) -> None:
    before = project.catalogue()
    project.run("pgpubsub", "uninstall", "--all", "--noinput")
    assert not project.catalogue()
    assert project.told(INSERT) == []
    project.run("pgpubsub", "install")
    assert project.catalogue() == before


QUESTIONS = {
    "uninstall": "Drop the triggers of 1 channel (blog.Authors)? Until they are installed again, "
    "no change sends a message.",
    "disable": "Disable the triggers of 1 channel (blog.Authors)? Until they are enabled again, "
    "no change sends a message.",
}


@pytest.mark.parametrize(("word", "question"), QUESTIONS.items(), ids=QUESTIONS)
def test_uninstall_and_disable_ask_and_need_a_selection(
    project: Project, word: str, question: str
) -> None:
    """F56: ``uninstall`` without arguments dropped everything without asking."""
    output = project.run("pgpubsub", word, code=1)
    assert "is selected. Name channels, as ls shows them. --all selects everything." in output
    assert "leave out either" in project.run("pgpubsub", word, "--all", "blog.Authors", code=1)
    for argv in ((word, "--all"), (word, "blog.Authors")):
        output = project.run("pgpubsub", *argv, code=1)
        assert f"{question} The answer can only be given at a terminal." in output
        assert question in project.run("pgpubsub", *argv, answers="n\n", code=1)
    assert state(project) == "installed"
    assert f"{question} [y/N] " in project.run("pgpubsub", word, "--all", answers="y\n")
    assert state(project) != "installed"


def test_prune_asks_and_drops_only_what_is_ours(project: Project) -> None:
    """T4: two projects share a database, and neither prunes the other's triggers."""
    leave_over(project)
    (problem,) = rows(project, "verify", code=1)
    assert (problem["channel"], problem["remedy"]) == (
        "blog.Gone",
        "Run: python manage.py pgpubsub prune",
    )
    before = project.catalogue()
    assert "add --noinput" in project.run("pgpubsub", "prune", code=1)  # F56
    output = project.run("pgpubsub", "prune", answers="n\n", code=1)
    assert "Drop the leftovers of 1 channel (blog.Gone)? [y/N]" in output
    assert "shop" not in output
    assert project.catalogue() == before
    project.run("pgpubsub", "prune", answers="y\n")
    assert set(project.catalogue().functions) == {
        f"{FUNCTION}()",
        '"pgpubsub_channel_shop.Theirs"()',
    }
    assert "There is nothing to prune." in project.run("pgpubsub", "prune", "--noinput")
