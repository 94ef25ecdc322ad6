"""Watched tables that are unmanaged, partitioned, inherited, swapped or our own."""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, assert_quiet, install, tell, walk
from tests.migrations.harness import Project
from tests.migrations.versions import AUTHOR, authors, blog, channel, model, on

OTHERS = model("Author", meta="managed = False")
TABLE = "CREATE TABLE blog_author (id integer GENERATED ALWAYS AS IDENTITY, name text)"


# --- managed = False ------------------------------------------------------------------------------


def test_an_unmanaged_table_is_watched_if_declared(project: Project) -> None:
    """T10: makemigrations does not crash; the check says what to do; done, all is as ever."""
    project.sql(TABLE)
    project.write(authors("insert", models=OTHERS))
    output = project.run("makemigrations", code=1)
    assert "pgpubsub_sql.E009) blog.channels.Authors watches blog.Author" in output
    assert "set unmanaged = True on the channel" in output

    install(project, authors("insert", models=OTHERS, unmanaged=True))
    assert tell(project) == ["blog.Authors INSERT"]
    assert_quiet(project)
    install(project, authors("insert", "delete", models=OTHERS, unmanaged=True))
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors DELETE"]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
    assert tell(project) == []


def test_a_missing_unmanaged_table_is_reported(project: Project) -> None:
    """T10: a test database is made all the same; what is missing is said, and easily made good."""
    project.write(authors("insert", models=OTHERS, unmanaged=True))
    project.run("makemigrations")
    output = project.run("migrate")
    assert "channel blog.Authors is not installed: the database default has no table" in output
    assert project.catalogue() == frozenset()
    project.sql(TABLE)
    assert "pgpubsub install" in project.run("pgpubsub", "verify", code=1)
    project.run("pgpubsub", "install")
    assert tell(project) == ["blog.Authors INSERT"]


def test_a_trigger_stays_when_its_model_becomes_unmanaged(project: Project) -> None:
    """T10: the trigger stays as it is, both ways."""
    case = Case(
        "unmanaged",
        before=authors("insert"),
        after=authors("insert", models=OTHERS, unmanaged=True),
        writes=["blog: AlterModelOptions"],
        tells=["blog.Authors INSERT"],
    )
    walk(project, case)


VIEWS = {
    "a view": "CREATE VIEW blog_author AS SELECT 1 AS id, 'Ann' AS name",
    "a materialized view": "CREATE MATERIALIZED VIEW blog_author AS SELECT 1 AS id, 'Ann' AS name",
    "a foreign table": "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none;"
    "CREATE FOREIGN TABLE blog_author (id int, name text) SERVER nowhere",
}


@pytest.mark.parametrize(("kind", "statement"), VIEWS.items(), ids=VIEWS)
def test_views_cannot_be_watched(project: Project, kind: str, statement: str) -> None:
    """T10: PostgreSQL has no transition tables for them, and migrate says what to do instead."""
    project.sql(statement)
    project.write(authors("insert", models=OTHERS, unmanaged=True))
    project.run("makemigrations")
    output = project.run("migrate", code=1)
    assert f"The channel 'blog.Authors' cannot watch blog_author, which is {kind}" in output
    assert "Watch the tables underneath" in output


def test_virtual_columns_cannot_be_named(project: Project) -> None:
    """T7: to a trigger it is NULL, or an internal error of PostgreSQL's; the model knows nothing."""
    if not project.sql("SELECT 1 WHERE current_setting('server_version_num')::int >= 180000"):
        pytest.skip("this server has no virtual columns")
    project.sql(
        "CREATE TABLE blog_author (id integer GENERATED ALWAYS AS IDENTITY, name text,"
        " length integer GENERATED ALWAYS AS (length(name)) VIRTUAL)"
    )
    long = model("Author", "length = models.IntegerField()", meta="managed = False")
    for option in ("columns", "watch", "ordering_key"):
        project.write(authors("insert", models=long, unmanaged=True, **{option: ("length",)}))
        project.run("makemigrations")
        output = project.run("migrate", code=1)
        assert "The trigger of channel 'blog.Authors' cannot be installed on" in output
        assert "PostgreSQL computes length on reading, so no trigger sees it" in output
    install(project, authors("insert", models=long, unmanaged=True))
    assert tell(project) == ["blog.Authors INSERT"]


# --- Our own --------------------------------------------------------------------------------------

OURS = """from django.db import migrations
from pgpubsub_sql.migrations_ops.operations import AddTrigger

class Migration(migrations.Migration):
    dependencies = [("pgpubsub_sql", "0001_initial")]
    operations = [
        AddTrigger({{"channel": "blog.Authors", "model": "{model}", "after": ["insert"], "durable": True}})
    ]
"""
LINKED = (
    "sent = models.ForeignKey('pgpubsub_sql.Notification', models.SET_NULL, null=True,"
    " db_constraint=False)"
)


@pytest.mark.parametrize("model", ["pgpubsub_sql.Notification", "pgpubsub_sql.LongPayload"])
def test_our_own_tables_cannot_be_watched(project: Project, model: str) -> None:
    """F18: every write to any durable table failed, as each message made another be stored."""
    project.write(authors("insert", model=model))
    output = project.run("makemigrations", code=1)
    assert f"E008) blog.channels.Authors: model is {model}, whose table is" in output
    output = project.run("makemigrations", "--skip-checks", code=None)
    assert f"model is {model}, whose table is pgpubsub_sql's own" in output
    assert project.migrations() == []

    written = OURS.format(model=model.lower())
    project.write(authors() | {"blog/migrations/0001_initial.py": written})
    output = project.run("migrate", code=1)
    assert f"cannot watch pgpubsub_sql_{model.rpartition('.')[2].lower()}, where" in output
    assert "remove the operation from the migration" in output
    assert project.catalogue() == frozenset()


def test_tables_that_refer_to_ours_can_be_watched(project: Project) -> None:
    """F18's siblings: what only refers to a message is not written when one is stored."""
    install(project, authors("insert", "update", models=model("Author", LINKED)))
    assert tell(project) == ["blog.Authors INSERT", "blog.Authors UPDATE"]


# --- Partitions and children ----------------------------------------------------------------------

PARTITIONED = """
from django.db import migrations, models

TABLE = \"\"\"
CREATE TABLE blog_author (id integer GENERATED BY DEFAULT AS IDENTITY, name text) PARTITION BY LIST (name);
CREATE TABLE blog_ann PARTITION OF blog_author FOR VALUES IN ('Ann');
CREATE TABLE blog_rest PARTITION OF blog_author DEFAULT;
\"\"\"


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(
            TABLE,
            "DROP TABLE blog_author",
            state_operations=[
                migrations.CreateModel(
                    "Author",
                    [
                        ("id", models.BigAutoField(primary_key=True, serialize=False)),
                        ("name", models.TextField()),
                    ],
                )
            ],
        )
    ]
"""
AUTHOR_WITH_ID = AUTHOR.replace("name =", "id = models.BigAutoField(primary_key=True)\n    name =")
EVENTS = ("insert", "update", "delete")


def test_writes_to_table_and_partitions_are_sent(project: Project) -> None:
    """What is written to the table or to a partition is told, and a moved row is another one."""
    project.write({**blog(models=AUTHOR_WITH_ID), "blog/migrations/0001_initial.py": PARTITIONED})
    assert_quiet(project)
    install(project, authors(*EVENTS, models=AUTHOR_WITH_ID))
    assert_quiet(project)
    moved = ["INSERT", "DELETE", "INSERT", "DELETE"]
    assert tell(project) == [f"blog.Authors {event}" for event in moved]
    told = project.told("INSERT INTO blog_rest (id, name) VALUES (6, 'Dora')")
    assert told == [("blog.Authors", "INSERT")]
    project.sql("CREATE TABLE later (id integer NOT NULL, name text)")
    project.sql("ALTER TABLE blog_author ATTACH PARTITION later FOR VALUES IN ('Cleo')")
    told = project.told("INSERT INTO later (id, name) VALUES (7, 'Cleo')")
    assert told == [("blog.Authors", "INSERT")]

    project.run("migrate", "blog", "0001")
    assert project.catalogue() == frozenset()
    project.run("migrate")
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()
    assert not project.has("blog_author")


CHILD = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial")]
    operations = [
        migrations.RunSQL("CREATE TABLE blog_child () INHERITS (blog_author)", "DROP TABLE blog_child")
    ]
"""


def test_children_by_inheritance_are_tables_of_their_own(project: Project) -> None:
    """They are tables of their own: what is written to them by name tells nothing, and through the
    parent as PostgreSQL has it, all rows of the statement."""
    install(project, authors(*EVENTS))
    install(project, {"blog/migrations/0002_child.py": CHILD})
    assert_quiet(project)
    child = project.told("INSERT INTO blog_child (id, name) VALUES (7, 'Ann')")
    assert child == []
    through_parent = project.told("UPDATE blog_author SET name = 'Bea'", "DELETE FROM blog_author")
    assert through_parent == [("blog.Authors", "UPDATE"), ("blog.Authors", "DELETE")]
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()


# --- A model that is swapped ----------------------------------------------------------------------

USERS = ["django.contrib.auth", "django.contrib.contenttypes", "pgpubsub_sql", "people", "blog"]
PEOPLE = {
    "people/__init__.py": "",
    "people/models.py": "from django.contrib.auth.models import AbstractUser\n\nclass User(AbstractUser): ...\n",
    "people/migrations/__init__.py": "",
}


def test_a_swappable_model_is_watched_like_any_other(project: Project) -> None:
    """P24: the check names the setting, and with it everything is as with any model."""
    project.configure('AUTH_USER_MODEL = "people.User"', apps=USERS)
    project.write(PEOPLE | blog(channels=channel(model="auth.User"), listeners=on("insert")))
    output = project.run("makemigrations", code=1)
    assert "(pgpubsub_sql.E003) blog.channels.Authors has no model to watch: auth.User" in output
    assert "Use settings.AUTH_USER_MODEL" in output

    right = channel().replace("'blog.Author'", "settings.AUTH_USER_MODEL")
    source = f"from django.conf import settings\n{right}"
    install(project, blog(channels=source, listeners=on("insert")))
    assert "'model': settings.AUTH_USER_MODEL" in project.latest()
    assert_quiet(project)
    assert project.catalogue().tables == {"people_user"}
    project.run("createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org")
    assert project.stored() == [("blog.Authors", "INSERT")]
    project.run("migrate", "people", "zero")
    assert project.catalogue() == frozenset()


def test_a_trigger_stays_when_its_model_is_swapped(project: Project) -> None:
    """P24: as foreign keys do, the trigger stays where it was; ``install`` moves it."""
    source = "from django.conf import settings\n" + channel().replace(
        "'blog.Author'", "settings.AUTH_USER_MODEL"
    )
    project.configure(apps=[app for app in USERS if app != "people"])
    install(project, blog(channels=source, listeners=on("insert")))
    assert project.catalogue().tables == {"auth_user"}

    project.configure('AUTH_USER_MODEL = "people.User"', apps=USERS)
    project.write(PEOPLE)
    project.run("makemigrations")
    # What Django leaves to people who swap a model that is in use.
    project.sql("CREATE TABLE people_user (LIKE auth_user INCLUDING ALL)")
    project.sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('people', '0001_initial', now())"
    )
    project.run("migrate")
    assert project.migrations() == ["0001_initial"]
    assert "pgpubsub install" in project.run("pgpubsub", "verify", code=1)
    project.run("pgpubsub", "install")
    assert project.catalogue().tables == {"people_user"}
    assert "agree" in project.run("pgpubsub", "verify")
    project.run("createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org")
    assert project.stored() == [("blog.Authors", "INSERT")]
