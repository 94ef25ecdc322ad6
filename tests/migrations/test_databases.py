"""Projects with several databases, schemas or roles."""

from __future__ import annotations

from collections.abc import Callable

from tests.migrations.cases import assert_quiet, install, tell
from tests.migrations.harness import Database, Project
from tests.migrations.versions import AUTHOR, authors, blog, channel, on, people, watcher

NewProject = Callable[..., Project]


def test_a_database_that_is_not_postgresql_is_left_alone(project: Project) -> None:
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


def test_everything_is_installed_into_the_current_schema(project: Project) -> None:
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
    more = channel("Authors") + channel("News", lock_notifications=False)
    heard = on("insert", "update") + on("insert", of="blog.channels.News")
    install(project, blog(models=AUTHOR, channels=more, listeners=heard))
    assert {name.partition(".")[0] for name in project.catalogue().functions} == {"own", "later"}
    project.sql("INSERT INTO own.blog_author (name) VALUES ('Ann')", user=role)
    project.sql("UPDATE own.blog_author SET name = 'Bea'", user=role)
    stored = project.sql("SELECT payload->>'op' FROM own.pgpubsub_sql_notification ORDER BY id")
    assert stored == [("INSERT",), ("UPDATE",)]

    install(project, authors())
    assert project.catalogue() == frozenset()


# --- Routers --------------------------------------------------------------------------------------

ROUTER = """
class Router:
    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "people" else "default"

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, **hints):
        if app_label in {shared!r}:
            return True
        return (db == "other") == (app_label == "people")
"""


def with_router(project: Project, other: Database, shared: list[str]) -> None:
    """Put the models of ``people`` into another database."""
    extra = f"""
    DATABASES["other"] = DATABASES["default"] | {{"NAME": {other.name!r}}}
    DATABASE_ROUTERS = ["project.router.Router"]
    """
    project.configure(extra, apps=["pgpubsub_sql", "people", "blog"])
    project.write({"project/router.py": ROUTER.format(shared=shared)})


def test_routers_decide_where_a_trigger_is_installed(project: Project, other: Database) -> None:
    """Routers decide, for a channel of another app, too; in every direction."""
    with_router(project, other, shared=["pgpubsub_sql"])
    both = channel(model="people.Author") + channel("Own", model="blog.Author")
    listeners = on("insert") + on("insert", of="blog.channels.Own")
    install(project, people(), blog(models=AUTHOR, channels=both, listeners=listeners))
    project.run("migrate", "--database", "other")
    assert_quiet(project)
    assert project.catalogue().tables == {"blog_author"}
    assert other.catalogue().tables == {"people_author"}
    assert tell(project) == ["blog.Own INSERT"]
    assert tell(other, "people_author") == ["blog.Authors INSERT"]

    for alias in ("default", "other"):
        project.run("migrate", "--database", alias, "blog", "zero")
    assert project.catalogue() == other.catalogue() == frozenset()


def test_migrate_refuses_triggers_in_a_database_without_our_tables(
    project: Project, other: Database
) -> None:
    """P15: a trigger without its table would fail every write, so migrate refuses and says why."""
    with_router(project, other, shared=[])
    install(project, people(), watcher("blog", "people.Author"))
    output = project.run("migrate", "--database", "other", code=1)
    assert "NotReady" in output
    assert "'pgpubsub_sql'" in output
    assert "'other'" in output
    assert other.catalogue() == frozenset()
    assert tell(other, "people_author") == []


# --- Tenants --------------------------------------------------------------------------------------

TENANTS = """
for tenant in ("one", "two"):
    DATABASES[tenant] = DATABASES["default"] | {"OPTIONS": {"options": f"-c search_path={tenant}"}}
"""


def test_each_tenant_schema_has_its_own_triggers(project: Project) -> None:
    """T5: one database, a schema a tenant: what is written in one is never told in another."""
    project.configure(TENANTS, apps=["pgpubsub_sql", "blog"])
    project.write(authors("insert"))
    project.run("makemigrations")
    for tenant in ("one", "two"):
        project.sql(f"CREATE SCHEMA {tenant}")
        project.run("migrate", "--database", tenant)

    def stored(tenant: str) -> list[str]:
        rows = f"SELECT payload->'new'->>'name' FROM {tenant}.pgpubsub_sql_notification"
        return [name for (name,) in project.sql(rows)]

    project.sql("INSERT INTO one.blog_author (name) VALUES ('Ann')")
    project.sql("INSERT INTO two.blog_author (name) VALUES ('Bea')")
    assert (stored("one"), stored("two")) == (["Ann"], ["Bea"])

    project.write(authors("update"))
    project.run("makemigrations")
    project.run("migrate", "--database", "one")
    project.sql("UPDATE one.blog_author SET name = 'Cleo'")
    project.sql("INSERT INTO two.blog_author (name) VALUES ('Dora')")
    assert (stored("one"), stored("two")) == (["Ann", "Cleo"], ["Bea", "Dora"])

    project.run("migrate", "--database", "two", "blog", "zero")
    assert project.catalogue().tables == {"one.blog_author"}
    project.run("migrate", "--database", "one", "blog", "zero")
    project.run("migrate", "--database", "one", "pgpubsub_sql", "zero")
    assert project.catalogue() == frozenset()
