"""Writes before, during and after migrations."""

from __future__ import annotations

import pytest

from tests.migrations.cases import assert_quiet, install, operations, tell
from tests.migrations.harness import Files, Project
from tests.migrations.versions import AUTHOR, authors, blog, channel, model, people

DATA = """
from django.db import migrations


def create(apps, schema_editor):
    apps.get_model("blog.Author").objects.create(name="{name}")


class Migration(migrations.Migration):
    dependencies = [("blog", "{after}")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
"""
NAMES = "SELECT channel, payload->'new'->>'name' FROM pgpubsub_sql_notification ORDER BY id"


def data(number: int, after: str, name: str) -> Files:
    source = DATA.format(after=after, name=name)
    return {f"blog/migrations/{number:04}_data.py": source}


def test_data_migrations_send_what_was_declared_at_the_time(project: Project) -> None:
    """P24: one writes before there is a trigger, one after it and one when it is gone again; all in
    one ``migrate``, both ways, and what is told is what was declared at the time."""
    project.write(authors())
    project.run("makemigrations")
    project.write(data(2, "0001_initial", "before") | authors("insert"))
    project.run("makemigrations")
    project.write(data(4, "0003_authors_trigger", "after") | authors())
    project.run("makemigrations")
    project.write(data(6, "0005_remove_authors_trigger", "gone"))
    assert_quiet(project)
    project.run("migrate")
    assert project.sql(NAMES) == [("blog.Authors", "after")]
    assert project.sql("SELECT name FROM blog_author ORDER BY id") == [
        ("before",),
        ("after",),
        ("gone",),
    ]
    project.run("migrate", "blog", "zero")
    project.run("migrate")
    assert project.sql(NAMES) == [("blog.Authors", "after")] * 2


def test_data_written_in_the_migration_that_adds_the_trigger_is_sent(project: Project) -> None:
    """P24: before and after it, in one transaction, in which a row may still wait for a check."""
    project.write(authors("insert"))
    project.run("makemigrations")
    source = project.latest()
    create = "        migrations.RunSQL(\"INSERT INTO blog_author (name) VALUES ('{}')\", ''),\n"
    adding = "        pgpubsub_sql.migrations_ops.operations.AddTrigger("
    before, _, after = source.partition(adding)
    after, _, end = after.rpartition("    ]\n")
    source = (
        before + create.format("before") + adding + after + create.format("after") + "    ]\n" + end
    )
    project.write({"blog/migrations/0001_initial.py": source})
    assert operations(project.latest()) == ["CreateModel", "RunSQL", "AddTrigger", "RunSQL"]
    project.run("migrate")
    assert project.sql(NAMES) == [("blog.Authors", "after")]


LISTENER = """
@pgpubsub_sql.post_insert_listener("blog.channels.Authors")
def greet(new):
    print("Hello", new.name)
"""


@pytest.mark.parametrize("durable", [True, False], ids=["becomes ephemeral", "becomes durable"])
def test_stored_rows_are_handled_after_the_channel_changed(project: Project, durable: bool) -> None:
    """What was stored is handled whatever the channel is by then; nothing is lost or doubled."""

    def version(*, durable: bool) -> Files:
        source = channel(lock_notifications=durable)
        return blog(models=AUTHOR, channels=source, listeners=LISTENER)

    install(project, version(durable=durable))
    project.sql("INSERT INTO blog_author (name) VALUES ('Ann')")
    install(project, version(durable=not durable))
    project.sql("INSERT INTO blog_author (name) VALUES ('Bea')")
    waiting = project.sql(NAMES)
    assert waiting == [("blog.Authors", "Ann" if durable else "Bea")]
    assert project.start("listen", "--drain", "--processes", "1") == f"Hello {waiting[0][1]}\n"
    assert project.sql(NAMES) == []


HEARD = """
@pgpubsub_sql.post_update_listener("blog.channels.Authors")
def meet(old, new):
    print(old.name, "is", new.name)
"""


def test_old_and_new_code_handle_each_others_messages(project: Project) -> None:
    """T13: while a deployment rolls, either handles what the trigger of the other has stored."""

    def drain() -> str:
        return project.start("listen", "--drain", "--processes", "1")

    def old() -> Files:
        return blog(models=AUTHOR, channels=channel(), listeners=LISTENER)

    def new() -> Files:
        aged = model("Author", "age = models.IntegerField(null=True)")
        source = channel(columns=("name", "age"))
        return blog(models=aged, channels=source, listeners=LISTENER + HEARD)

    install(project, old())
    project.sql("INSERT INTO blog_author (name) VALUES ('Ann')")
    project.write(new())
    assert drain() == "Hello Ann\n"  # a field that the row has not yet is deferred

    install(project, new())
    project.sql("INSERT INTO blog_author (name, age) VALUES ('Bea', 7)")
    project.sql("UPDATE blog_author SET name = 'Cea'")
    project.write(old())
    project.sql("INSERT INTO blog_author (name) VALUES ('Dea')")
    assert drain() == "Hello Bea\nHello Dea\n"  # it knows neither the field nor the event
    assert project.stored() == []

    project.sql("UPDATE blog_author SET name = 'Eve' WHERE name = 'Dea'")
    project.write(new())
    assert drain() == "Dea is Eve\n"


# --- Between apps ---------------------------------------------------------------------------------


def separated(source: str, kind: str) -> str:
    """Return a migration in which what Django does to the model is done to the state alone."""
    at = source.index(f"        migrations.{kind}(")
    before, operation = source[:at], source[at:]
    end = operation.index("\n        ),\n") + len("\n        ),\n")
    wrapped = f"        migrations.SeparateDatabaseAndState(state_operations=[\n{operation[:end]}        ]),\n"
    return before + wrapped + operation[end:]


def test_a_model_moves_between_apps_and_keeps_table_and_trigger(project: Project) -> None:
    """T1: as is usual, what makemigrations has written for the model is put into state_operations;
    the trigger moves along, both ways, and no row is lost."""
    project.configure(apps=["pgpubsub_sql", "blog", "people"])
    before = {"people/__init__.py": "", "people/migrations/__init__.py": ""}
    install(project, before | authors("insert"))
    project.sql("INSERT INTO blog_author (name) VALUES ('Ann')")
    project.stored()
    first = project.catalogue()

    moved = people(AUTHOR + "    class Meta:\n        db_table = 'blog_author'\n")
    project.write(moved | authors("insert", models="", model="people.Author"))
    project.run("makemigrations")
    assert operations(project.latest("people")) == ["CreateModel"]
    new = project.migrations()[1:]
    assert [operations(project.source("blog", name)) for name in new] == [
        ["RemoveTrigger", "DeleteModel", "AddTrigger"]
    ]
    project.write(
        {
            "people/migrations/0001_initial.py": separated(project.latest("people"), "CreateModel"),
            f"blog/migrations/{new[0]}.py": separated(project.latest("blog"), "DeleteModel"),
        }
    )
    project.run("migrate")
    assert_quiet(project)
    assert tell(project) == ["blog.Authors INSERT"]
    project.run("migrate", "blog", "0001")
    assert project.catalogue() == first
    assert tell(project) == ["blog.Authors INSERT"]
    project.run("migrate")
    project.run("migrate", "blog", "zero")
    assert project.catalogue() == frozenset()


BOTH = """
from django.db import migrations

from pgpubsub_sql.migrations_ops.operations import AddTrigger

AUTHORS = {"channel": "blog.Authors", "model": "blog.author", "after": ["insert"], "durable": True}


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ("pgpubsub_sql", "0001_initial")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[AddTrigger(AUTHORS)],
            state_operations=[AddTrigger(AUTHORS)],
        )
    ]
"""


def test_trigger_operations_work_in_separate_database_and_state(project: Project) -> None:
    """T9: inside SeparateDatabaseAndState each half does its part, and counts once."""
    install(project, authors())
    install(project, authors("insert"), {"blog/migrations/0002_both.py": BOTH})
    assert project.migrations() == ["0001_initial", "0002_both"]
    assert tell(project) == ["blog.Authors INSERT"]
    install(project, authors("insert", "update"))
    assert operations(project.latest()) == ["AlterTrigger"]
    assert_quiet(project)
    project.run("migrate", "blog", "0001")
    assert project.catalogue() == frozenset()
