"""``makemigrations`` and ``migrate``, as a project runs them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import django

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Catalogue, Database, Files, Project
from tests.migrations.versions import AUTHOR, app, authors, blog, channel, model, on

NewProject = Callable[..., Project]


# --- The first migration --------------------------------------------------------------------------


def test_the_first_migration_depends_on_ours_and_creates_the_model_first(project: Project) -> None:
    """P24: what the trigger needs is declared, and comes first."""
    install(project, authors("insert", "delete"))

    assert project.migrations() == ["0001_initial"]
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "('pgpubsub_sql', '0001_initial')" in project.latest()
    assert "initial = True" in project.latest()
    assert project.catalogue().timed_events == {"after_insert", "after_delete"}
    assert project.catalogue().tables == {"blog_author"}
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors DELETE"]
    assert_quiet(project)


def test_a_channel_on_a_packages_model_is_migrated_in_the_projects_app(
    new_project: NewProject,
) -> None:
    """P24: the migration lands in the project's app, and nothing in site-packages."""
    site_packages = Path(django.__file__).parent
    before = {path: path.stat().st_mtime_ns for path in site_packages.rglob("migrations/*")}
    label = "django.contrib."
    project = new_project(apps=[f"{label}auth", f"{label}contenttypes", "pgpubsub_sql", "blog"])
    install(project, blog(channels=channel(model="auth.User"), listeners=on("insert")))

    assert operations(project.latest()) == ["AddTrigger"]
    assert "migrations.swappable_dependency(settings.AUTH_USER_MODEL)" in project.latest()
    assert "'model': settings.AUTH_USER_MODEL" in project.latest()
    assert "('pgpubsub_sql', '0001_initial')" in project.latest()
    after = {path: path.stat().st_mtime_ns for path in site_packages.rglob("migrations/*")}
    assert after == before
    assert project.catalogue().tables == {"auth_user"}
    project.run("createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org")
    assert project.stored() == [("blog.Authors", "INSERT")]
    assert_quiet(project)


def test_an_app_without_models_has_one_initial_migration(project: Project) -> None:
    """Django takes every migration of an app without models for its initial one."""
    project.configure(apps=["pgpubsub_sql", "people", "blog"])
    people = app("people", models=AUTHOR) | {"people/migrations/__init__.py": ""}
    source = channel(model="people.Author")
    install(project, people, blog(channels=source, listeners=on("insert")))
    install(project, blog(channels=source, listeners=on("insert", "update")))

    assert project.migrations() == ["0001_initial", "0002_alter_authors_trigger"]
    assert "initial" not in project.latest().partition("class Migration")[2].replace("_initial", "")


def test_an_app_without_migrations_is_told_what_to_run(project: Project) -> None:
    """P24: W002 names the command, and until then nothing is written."""
    project.write(app("blog", models=AUTHOR, channels=channel("Authors"), listeners=on("insert")))
    output = project.run("check")
    assert "pgpubsub_sql.W002" in output
    assert "python manage.py makemigrations blog" in output
    assert "No changes detected" in project.run("makemigrations")
    assert project.migrations() == []

    project.run("makemigrations", "blog")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    project.run("migrate")
    assert "W002" not in project.run("check")
    assert tell(project) == ["blog.Authors INSERT"]


# --- Changes --------------------------------------------------------------------------------------


def test_a_function_is_replaced_without_touching_the_table(project: Project) -> None:
    """T13: a change of the function alone takes no lock that a writer would wait for."""
    install(project, authors("insert", "update"))
    oids = "SELECT oid FROM pg_trigger WHERE NOT tgisinternal ORDER BY oid"
    before = project.sql(oids)
    project.write(authors("insert", "update", lock_notifications=False))
    project.run("makemigrations")
    shown = project.run("sqlmigrate", "blog", "0002")
    assert "CREATE OR REPLACE FUNCTION" in shown
    assert not re.search(r"(CREATE OR REPLACE|DROP) TRIGGER", shown)
    project.run("migrate")
    assert project.sql(oids) == before


# --- Several apps ---------------------------------------------------------------------------------


def test_a_channel_moves_to_another_app_under_the_same_name(new_project: NewProject) -> None:
    """T2: the old app's RemoveTrigger does not drop the function of the new one."""
    project = new_project(apps=["pgpubsub_sql", "new", "old"])
    source = channel(model="new.Author", channel_name="authors")

    def version(home: str) -> Files:
        files: dict[str, str] = {}
        for label in ("new", "old"):
            parts = {}
            if label == home:
                parts = {
                    "channels": source,
                    "listeners": on("insert", of=f"{home}.channels.Authors"),
                }
            files |= app(label, models=AUTHOR if label == "new" else "", **parts)
            files |= {f"{label}/migrations/__init__.py": ""}
        return files

    install(project, version("old"))
    first = project.catalogue()
    install(project, version("new"))
    second = project.catalogue()
    assert operations(project.latest("old")) == ["RemoveTrigger"]
    assert operations(project.latest("new")) == ["AddTrigger"]
    assert second != first
    assert of_app("old", second) == of_app("old", first)
    assert tell(project, "new_author") == ["authors INSERT"]
    assert_quiet(project)

    project.run("migrate", "old", "0001")
    assert project.catalogue() == first
    project.run("migrate", "old", "zero")
    assert project.catalogue() == frozenset()
    project.run("migrate")
    assert project.catalogue() == second


def of_app(label: str, found: Catalogue) -> set[str]:
    """Return what is installed as if it were all of one app."""
    return {re.sub('"app": "[a-z]+"', f'"app": "{label}"', one.definition) for one in found}


def test_a_model_of_an_app_without_migrations_can_be_watched(new_project: NewProject) -> None:
    """P24: the channel's app has the migration; the model's app needs none."""
    project = new_project(apps=["pgpubsub_sql", "people", "blog"])
    project.write(app("people", models=AUTHOR))
    project.write(blog(channels=channel(model="people.Author"), listeners=on("insert")))
    project.run("makemigrations")
    project.run("migrate", "--run-syncdb")
    assert project.migrations("people") == []
    assert tell(project, "people_author") == ["blog.Authors INSERT"]
    assert_quiet(project)


def test_apps_that_depend_on_each_other_are_migrated_in_order(new_project: NewProject) -> None:
    """Models that refer to each other's apps, and channels across: still a plan in order."""
    project = new_project(apps=["pgpubsub_sql", "one", "two"])
    for here, there in (("one", "two"), ("two", "one")):
        models = model(
            "Thing",
            f"other = models.ForeignKey('{there}.Part', models.CASCADE, null=True)",
            "parts = models.ManyToManyField('Part', related_name='+')",
        )
        source = channel("Things", model=f"{there}.Thing")
        source += channel("Links", model=f"{there}.thing_parts")
        project.write(
            app(
                here,
                models=model("Part") + models,
                channels=source,
                listeners=on("insert", of=f"{here}.channels.Things")
                + on("insert", of=f"{here}.channels.Links"),
            )
            | {f"{here}/migrations/__init__.py": ""}
        )
    project.run("makemigrations")
    project.run("migrate")
    tables = {"one_thing", "two_thing", "one_thing_parts", "two_thing_parts"}
    assert project.catalogue().tables == tables
    assert_quiet(project)


# --- Names ----------------------------------------------------------------------------------------


NAMES = [
    'say "hello"',
    "it's",
    "Capitals",
    "with space",
    "naïve Ünïcödé 名前",
    "long " + "ü" * 40,
    "100%",
    "%s %(name)s %%",
    r"back\slash \' \x24",
    "$pgpubsub$",
    "a$pgpubsub$pgpubsub$b",
    ":'literal' :\"name\" :{sql}",
    "two\nlines; DROP TABLE blog_t0; --",
    "comment */ /* --",
    "notify",  # these two would make a function of ours
    "context_v1",
]


def test_any_channel_name_makes_valid_sql(project: Project) -> None:
    """T8: whatever the name of a channel, its SQL is valid, and the name arrives as it is."""
    models, channels, listeners = "", "", ""
    for number, name in enumerate(NAMES):
        models += model(f"T{number}")
        channels += channel(f"C{number}", model=f"blog.T{number}", channel_name=name)
        listeners += on("insert", "update", "delete", of=f"blog.channels.C{number}")
    install(project, blog(models=models, channels=channels, listeners=listeners))
    assert_quiet(project)
    names = []
    for number in range(len(NAMES)):
        (name,) = {told.rpartition(" ")[0] for told in tell(project, f"blog_t{number}")}
        names.append(name)
    assert [name[:25] for name in names] == [name[:25] for name in NAMES]
    assert all(len(name.encode()) <= 63 for name in names)

    twin = Database()
    for label, number in (("pgpubsub_sql", "0001"), ("blog", "0001")):
        twin.sql(project.run("sqlmigrate", label, number))
    assert twin.catalogue() == project.catalogue()

    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
    project.run("migrate")  # the helpers are still there
    assert len(tell(project, "blog_t0")) == 3


TABLES = [
    'say ""hello""',  # Django's own way to have a quote in a table's name
    "it's",
    "Capitals and space",
    "naïve 名前",
    "long " + "x" * 70,
    r"back\slash",  # no percent sign: Django itself cannot drop such a table
    "a$pgpubsub$b",
    'audit"."authors',  # Django's way to put a table into a schema
    ":'literal' :{sql}",
]


def test_any_table_name_can_be_watched(project: Project) -> None:
    """T8: whatever ``db_table`` Django can create, we can watch."""
    project.sql("CREATE SCHEMA audit")
    models, channels, listeners = "", "", ""
    for number, table in enumerate(TABLES):
        models += model(f"T{number}", meta=f"db_table = {table!r}")
        channels += channel(f"C{number}", model=f"blog.T{number}")
        listeners += on("insert", "update", "delete", of=f"blog.channels.C{number}")
    project.write(blog(models=models, channels=channels, listeners=listeners))
    project.run("makemigrations")
    project.run("migrate")
    assert_quiet(project)
    for number, table in enumerate(TABLES):
        assert tell(project, f'"{table}"') == [
            f"blog.C{number} {op}" for op in ("INSERT", "UPDATE", "DELETE")
        ]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
