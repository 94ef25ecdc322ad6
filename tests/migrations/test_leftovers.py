"""Commands act on one schema and one project, even if the database has others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.migrations.harness import Database, Project
from tests.migrations.test_damage import AGREE
from tests.migrations.versions import app, authors, blog, channel, model, on

NewProject = Callable[..., Project]

EVERYTHING = (
    ("prune", "--noinput"),
    ("disable", "--all", "--noinput"),
    ("enable",),
    ("uninstall", "--all", "--noinput"),
    ("install",),
)


def share(project: Project, database: Database, search_path: str, *, apps: tuple[str, ...]) -> None:
    """Let *project* use another's database, and look names up along *search_path*."""
    project.configure(
        f"""
        DATABASES["default"]["NAME"] = {database.name!r}
        DATABASES["default"]["OPTIONS"] = {{"options": "-c search_path={search_path}"}}
        """,
        apps=apps,
    )


def install(project: Project) -> None:
    project.run("makemigrations")
    project.run("migrate", "-v0")


def shop() -> dict[str, str]:
    parts = {
        "models": model("Order"),
        "channels": channel("Orders", model="shop.Order"),
        "listeners": on("insert", of="shop.channels.Orders"),
    }
    return app("shop", **parts) | {"shop/migrations/__init__.py": ""}


@pytest.fixture
def shared() -> Iterator[Database]:
    database = Database()
    database.sql("CREATE SCHEMA one")
    database.sql("CREATE SCHEMA two")
    yield database
    database.drop()


@pytest.mark.parametrize("path", ["one", "one,two"])
def test_commands_keep_to_their_schema(
    new_project: NewProject, shared: Database, path: str
) -> None:
    """F7: within a tenant's schema, the channels of others were leftovers, and prune dropped them."""
    two, one = new_project(), new_project()
    share(two, shared, "two", apps=("pgpubsub_sql", "blog"))
    more = channel("Authors") + channel("News")
    listeners = on("insert") + on("insert", of="blog.channels.News")
    two.write(blog(models=model(), channels=more, listeners=listeners))
    install(two)
    share(one, shared, "one", apps=("pgpubsub_sql", "blog", "shop"))
    one.write(authors("insert") | shop())
    install(one)
    share(one, shared, path, apps=("pgpubsub_sql", "blog", "shop"))
    before = {entry for entry in shared.catalogue() if "two." in str(entry.definition)}
    assert before
    assert one.run("pgpubsub", "verify") == AGREE
    for argv in EVERYTHING:
        one.run("pgpubsub", *argv)
        now = {entry for entry in shared.catalogue() if "two." in str(entry.definition)}
        assert now == before, argv
    assert one.run("pgpubsub", "verify") == two.run("pgpubsub", "verify") == AGREE


def test_two_projects_of_one_name_do_not_prune_each_other(
    new_project: NewProject, shared: Database
) -> None:
    """F8: both have project.urls as ROOT_URLCONF, and each wanted to prune the other's."""
    first, second = new_project(), new_project()
    share(first, shared, "one", apps=("pgpubsub_sql", "blog"))
    first.write(authors("insert"))
    install(first)
    share(second, shared, "one", apps=("pgpubsub_sql", "shop"))
    second.write(shop())
    install(second)
    for project in (first, second):
        assert project.run("pgpubsub", "verify") == AGREE
        assert "nothing to prune" in project.run("pgpubsub", "prune", "--noinput")
    second.run("pgpubsub", "uninstall", "--all", "--noinput")
    assert first.run("pgpubsub", "verify") == AGREE
    assert "foreign" in second.run("pgpubsub", "ls", "--json")


def test_a_project_with_two_settings_recognizes_its_own(project: Project) -> None:
    """F8: all its own were foreign to the other."""
    project.write(authors("insert"))
    install(project)
    project.configure('ROOT_URLCONF = "other.urls"', apps=("pgpubsub_sql", "blog"))
    project.write({"other/__init__.py": "", "other/urls.py": "urlpatterns = []"})
    assert project.run("pgpubsub", "verify") == AGREE


def test_leftovers_are_reported_with_the_reason(project: Project) -> None:
    """F8: what a migration of this project has made, and what no newer release can have made."""
    project.write(authors())
    install(project)
    project.write(authors("insert"))
    install(project)
    added = project.root / "blog/migrations" / f"{project.migrations()[-1]}.py"
    project.write(authors())
    project.run("makemigrations")
    project.run("migrate", "--fake")
    removed = project.root / "blog/migrations" / f"{project.migrations()[-1]}.py"
    output = project.run("pgpubsub", "prune", code=1)
    assert f"the migration blog.{removed.stem} names it, and no listener needs it" in output
    for file in (added, removed):  # as in a release before them
        file.unlink()
    project.write(authors())
    assert project.run("pgpubsub", "verify") == AGREE
    assert "nothing to prune" in project.run("pgpubsub", "prune", "--noinput")
    project.sql("DELETE FROM django_migrations WHERE app = 'blog' AND name <> '0001_initial'")
    assert "it belongs to the app 'blog'" in project.run("pgpubsub", "prune", code=1)
