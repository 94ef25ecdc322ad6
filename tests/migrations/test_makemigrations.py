"""Declare, ``makemigrations``, ``migrate``: through the real commands, on the real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import django
import pytest

from tests.migrations.cases import assert_quiet, install, operations
from tests.migrations.harness import Database, Files, Project
from tests.migrations.versions import app, blog, channel, model, on

AUTHOR = model("Author")
AUTHORS = channel("Authors")
NewProject = Callable[..., Project]


def assert_writable(database: Database, table: str = "blog_author") -> list[tuple[str, str]]:
    """Every kind of write succeeds; return what was stored."""
    database.sql(f"INSERT INTO {table} (name) VALUES ('Ann')")
    database.sql(f"UPDATE {table} SET name = 'Bea'")
    database.sql(f"DELETE FROM {table}")
    return database.stored()


# --- The first migration --------------------------------------------------------------------------


def test_the_first_migration_of_a_model_of_ones_own(project: Project) -> None:
    """P24: what the trigger needs is declared, and comes first."""
    install(project, blog(models=AUTHOR, channels=AUTHORS, listeners=on("insert", "delete")))

    assert project.migrations() == ["0001_initial"]
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "('pgpubsub_sql', '0001_initial')" in project.latest()
    assert "initial = True" in project.latest()
    assert project.catalogue().events == {"after_insert", "after_delete"}
    assert project.catalogue().tables == {"blog_author"}
    assert assert_writable(project) == [("blog.Authors", "INSERT"), ("blog.Authors", "DELETE")]
    assert_quiet(project)


def test_a_channel_on_somebody_elses_model(new_project: NewProject) -> None:
    """P24: the migration lands in the project's app, and nothing in site-packages."""
    site_packages = Path(django.__file__).parent
    before = {path: path.stat().st_mtime_ns for path in site_packages.rglob("migrations/*")}
    label = "django.contrib."
    project = new_project(apps=[f"{label}auth", f"{label}contenttypes", "pgpubsub_sql", "blog"])
    install(project, blog(channels=channel(model="auth.User"), listeners=on("insert")))

    assert operations(project.latest()) == ["AddTrigger"]
    assert "('auth', '0012_alter_user_first_name_max_length')" in project.latest()
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


DATA_MIGRATION = """
from django.db import migrations


def create(apps, schema_editor):
    apps.get_model("blog.Author").objects.create(name="Ann")


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
"""


def test_a_data_migration_on_a_fresh_database(project: Project) -> None:
    """P24: a migration that writes to the model finds everything that its trigger needs."""
    project.write(blog(models=AUTHOR, channels=AUTHORS, listeners=on("insert")))
    project.run("makemigrations")
    project.write({"blog/migrations/0002_data.py": DATA_MIGRATION})
    project.run("migrate")
    assert project.stored() == [("blog.Authors", "INSERT")]


def test_an_app_without_migrations_is_told_what_to_run(project: Project) -> None:
    """P24: W002 names the command, and until then nothing is written."""
    project.write(app("blog", models=AUTHOR, channels=AUTHORS, listeners=on("insert")))
    output = project.run("check")
    assert "pgpubsub_sql.W002" in output
    assert "python manage.py makemigrations blog" in output
    assert "No changes detected" in project.run("makemigrations")
    assert project.migrations() == []

    project.run("makemigrations", "blog")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    project.run("migrate")
    assert "W002" not in project.run("check")
    assert assert_writable(project) == [("blog.Authors", "INSERT")]


# --- Changes --------------------------------------------------------------------------------------


def authors(*events: str, models: str = AUTHOR, **options: object) -> Files:
    return blog(
        models=models,
        channels=channel("Authors", **options) if events else "",
        listeners=on(*events),
    )


WRITER = model("Writer")
TWO = AUTHORS + channel("News", lock_notifications=False)
NEWS = {"of": "blog.channels.News"}


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


def test_a_channel_that_keeps_its_name_moves_to_another_app(new_project: NewProject) -> None:
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
    assert operations(project.latest("old")) == ["RemoveTrigger"]
    assert operations(project.latest("new")) == ["AddTrigger"]
    assert project.catalogue() == first
    assert assert_writable(project, "new_author") == [("authors", "INSERT")]
    assert_quiet(project)

    project.run("migrate", "old", "0001")
    assert project.catalogue() == first
    project.run("migrate", "old", "zero")
    assert project.catalogue() == frozenset()
    project.run("migrate")
    assert project.catalogue() == first


def test_a_model_of_an_app_without_migrations(new_project: NewProject) -> None:
    """P24: the channel's app has the migration; the model's app needs none."""
    project = new_project(apps=["pgpubsub_sql", "people", "blog"])
    project.write(app("people", models=AUTHOR))
    project.write(blog(channels=channel(model="people.Author"), listeners=on("insert")))
    project.run("makemigrations")
    project.run("migrate", "--run-syncdb")
    assert project.migrations("people") == []
    assert assert_writable(project, "people_author") == [("blog.Authors", "INSERT")]
    assert_quiet(project)


def test_apps_that_need_each_other(new_project: NewProject) -> None:
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


# --- Squashing ------------------------------------------------------------------------------------


def test_squashed_migrations_install_the_same(new_project: NewProject) -> None:
    """T9: squashing keeps what counts, and nothing else."""
    project = new_project()
    install(project, authors("insert", models=model("Writer"), model="blog.Writer"))
    install(project, authors("insert", "update"), answers="y\n")
    install(project, authors("insert", "update", models=model("Author", "age = models.IntegerField(null=True)")))  # fmt: skip
    install(project, authors("delete", models=model("Author", "age = models.IntegerField(null=True)")))  # fmt: skip
    assert len(project.migrations()) == 4
    project.run("squashmigrations", "--noinput", "blog", "0004")
    project.run("migrate")
    assert_quiet(project)

    (squashed,) = (name for name in project.migrations() if "squashed" in name)
    source = (project.root / f"blog/migrations/{squashed}.py").read_text()
    assert operations(source) == ["CreateModel", "AddTrigger"]
    twin = new_project(apps=["pgpubsub_sql", "blog"])
    twin.write(
        {
            str(file.relative_to(project.root)): file.read_text()
            for file in (project.root / "blog").rglob("*.py")
        }
    )
    twin.run("migrate")
    assert twin.catalogue() == project.catalogue()


def test_a_migration_that_is_updated(project: Project) -> None:
    """T9: ``makemigrations --update`` finds one operation where there were two."""
    project.write(authors("insert"))
    project.run("makemigrations")
    project.write(authors("insert", "update"))
    project.run("makemigrations", "--update", "--noinput", "blog")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "'after': ('insert', 'update')" in project.latest()
    assert_quiet(project)


# --- sqlmigrate -----------------------------------------------------------------------------------


def test_sqlmigrate_shows_exactly_what_runs(project: Project) -> None:
    """Another database that is given the output ends up with the same catalogue, step by step."""
    versions = [authors("insert", "update"), authors("delete", lock_notifications=False), authors()]
    twin = Database()
    catalogues = [project.catalogue()]
    for number, version in enumerate(versions, start=1):
        install(project, version)
        catalogues.append(project.catalogue())
        if number == 1:
            twin.sql(project.run("sqlmigrate", "pgpubsub_sql", "0001"))
        twin.sql(project.run("sqlmigrate", "blog", f"000{number}"))
        assert twin.catalogue() == catalogues[number]
        if number < len(versions):
            assert_writable(twin)
    for number in (3, 2, 1):
        twin.sql(project.run("sqlmigrate", "--backwards", "blog", f"000{number}"))
        assert twin.catalogue() == catalogues[number - 1]
    twin.sql(project.run("sqlmigrate", "--backwards", "pgpubsub_sql", "0001"))
    assert twin.sql("SELECT proname FROM pg_proc WHERE proname LIKE 'pgpubsub%'") == []


# --- Other databases, roles and schemas -----------------------------------------------------------


def test_another_kind_of_database_is_left_alone(project: Project) -> None:
    """``migrate --database other`` works where there are no triggers like ours."""
    extra = """
    DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "other.sqlite3"}
    """
    project.configure(extra, apps=["pgpubsub_sql", "blog"])
    for version in (authors("insert"), authors("insert", "update"), authors()):
        install(project, version)
        project.run("migrate", "--database", "other")
    project.run("migrate", "--database", "other", "blog", "zero")
    project.run("migrate", "--database", "other", "pgpubsub_sql", "zero")
    assert (project.root / "other.sqlite3").exists()


def test_a_role_that_may_not_write_to_public(project: Project) -> None:
    """T5: everything goes into the schema that migrate runs in, once.

    Where the search_path leads changes later: what is there is found, and what is new is put
    where it leads now.
    """
    role = f"tenant_{project.name}"
    project.sql(f"CREATE ROLE {role} LOGIN")
    project.sql(f"CREATE SCHEMA own AUTHORIZATION {role}")
    project.sql(f"CREATE SCHEMA later AUTHORIZATION {role}")
    project.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    project.sql(f"ALTER ROLE {role} SET search_path = own")
    extra = f'DATABASES["default"]["USER"] = {role!r}'
    project.configure(extra, apps=["pgpubsub_sql", "blog"])
    install(project, authors("insert"))
    schemas = """
        SELECT DISTINCT nspname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE starts_with(proname, 'pgpubsub')
    """
    assert project.sql(schemas) == [("own",)]

    project.sql(f"ALTER ROLE {role} SET search_path = later, own")
    install(project, blog(models=AUTHOR, channels=TWO, listeners=on("insert", "update") + on("insert", **NEWS)))  # fmt: skip
    assert {name.partition(".")[0] for name in project.catalogue().functions} == {"own", "later"}
    project.sql("INSERT INTO own.blog_author (name) VALUES ('Ann')", user=role)
    project.sql("UPDATE own.blog_author SET name = 'Bea'", user=role)
    stored = project.sql("SELECT payload->>'op' FROM own.pgpubsub_sql_notification ORDER BY id")
    assert stored == [("INSERT",), ("UPDATE",)]

    install(project, authors())
    assert project.catalogue() == frozenset()


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


def test_names_of_channels(project: Project) -> None:
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
        (name,) = {name for name, _ in assert_writable(project, f"blog_t{number}")}
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
    assert len(assert_writable(project, "blog_t0")) == 3


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


def test_names_of_tables(project: Project) -> None:
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
        assert assert_writable(project, f'"{table}"') == [
            (f"blog.C{number}", op) for op in ("INSERT", "UPDATE", "DELETE")
        ]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()


# --- Other packages with an autodetector ----------------------------------------------------------


COMPOSES = """
from django.apps import AppConfig
from django.core.management.commands import makemigrations, migrate


class Mixin:
    def _detect_changes(self, *args, **kwargs):
        print("the other autodetector was here")
        return super()._detect_changes(*args, **kwargs)


class OtherConfig(AppConfig):
    name = "other"

    def ready(self):
        composed = type("MigrationAutodetector", (Mixin, makemigrations.Command.autodetector), {})
        for module in (makemigrations, migrate):
            module.MigrationAutodetector = composed
            module.Command.autodetector = composed
"""
OVERWRITES = COMPOSES.replace(
    "(Mixin, makemigrations.Command.autodetector)",
    "(Mixin, __import__('django.db.migrations.autodetector', fromlist=['x']).MigrationAutodetector)",
)


@pytest.mark.parametrize(
    "apps", [["pgpubsub_sql", "other"], ["other", "pgpubsub_sql"]], ids=["before", "after"]
)
def test_a_package_that_composes_the_autodetector(new_project: NewProject, apps: list[str]) -> None:
    """T11: both do their work, whichever comes first in INSTALLED_APPS."""
    project = new_project(apps=[*apps, "blog"])
    project.write({"other/__init__.py": "", "other/apps.py": COMPOSES})
    project.write(authors("insert"))
    assert "the other autodetector was here" in project.run("makemigrations")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
    assert "no issues" in project.run("check")
    project.run("migrate")
    assert assert_writable(project) == [("blog.Authors", "INSERT")]
    assert_quiet(project)


def test_a_package_that_overwrites_the_autodetector(new_project: NewProject) -> None:
    """T11: W001 says what happened and what to do; done, it is quiet."""
    project = new_project(apps=["pgpubsub_sql", "other", "blog"])
    project.write({"other/__init__.py": "", "other/apps.py": OVERWRITES})
    project.write(authors("insert"))
    output = project.run("check")
    assert "pgpubsub_sql.W001" in output
    assert "before pgpubsub_sql in INSTALLED_APPS" in output

    project.configure(apps=["other", "pgpubsub_sql", "blog"])
    assert "no issues" in project.run("check")
    project.run("makemigrations")
    assert operations(project.latest()) == ["CreateModel", "AddTrigger"]
