"""Changes of models and fields, migrated there and back, one migration at a time."""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, walk
from tests.migrations.harness import Files, Project
from tests.migrations.versions import (
    AUTHOR,
    WRITER,
    authors,
    blog,
    channel,
    model,
    on,
)

INSERTS = ["blog.Authors INSERT"]
SAVES = ["blog.Authors INSERT", "blog.Authors UPDATE"]


def with_field(field: str) -> str:
    return model("Author", field)


PROXY = "class Proxy(Author):\n    class Meta:\n        proxy = True\n\n"
CHILD = 'class Child(Author):\n    nick = models.TextField(default="")\n\n'
ABSTRACT = model("Base", meta="abstract = True") + "class Author(Base): ...\n\n"


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "T1: it is renamed",
            before=authors("insert"),
            after=authors("insert", models=WRITER, model="blog.Writer"),
            writes=["blog: RenameModel"],
            answers="y\n",
            tells=INSERTS,
            table="blog_writer",
        ),
        Case(
            "T1: it is renamed, and a listener added",
            before=authors("insert"),
            after=authors("insert", "update", models=WRITER, model="blog.Writer"),
            writes=["blog: RenameModel AlterTrigger"],
            answers="y\n",
            tells=SAVES,
            table="blog_writer",
        ),
        Case(
            "T1: it is renamed, and the channel removed",
            before=authors("insert"),
            after=blog(models=WRITER),
            writes=["blog: RenameModel RemoveTrigger"],
            answers="y\n",
            tells=[],
            table="blog_writer",
        ),
        Case(
            "its table is renamed",
            before=authors("insert"),
            after=authors("insert", models=model(meta='db_table = "people"')),
            writes=["blog: AlterModelTable"],
            tells=INSERTS,
            table="people",
        ),
        Case(
            "its table is renamed, and a listener added",
            before=authors("insert"),
            after=authors("insert", "update", models=model(meta='db_table = "people"')),
            writes=["blog: AlterModelTable AlterTrigger"],
            tells=SAVES,
            table="people",
        ),
        Case(
            "it is deleted with its channel",
            before=authors("insert", models=AUTHOR + WRITER),
            after=blog(models=WRITER),
            writes=["blog: RemoveTrigger DeleteModel"],
            tells=[],
            table="blog_writer",
        ),
        Case(
            "it is deleted, and its channel moves to another",
            before=authors("insert"),
            after=authors("insert", models=model("Writer", "age = models.IntegerField(null=True)"), model="blog.Writer"),
            writes=["blog: RemoveTrigger CreateModel DeleteModel AddTrigger"],
            tells=INSERTS,
            table="blog_writer",
        ),
        Case(
            "a proxy of it is watched instead, which has the same table",
            before=authors("insert"),
            after=authors("insert", models=AUTHOR + PROXY, model="blog.Proxy"),
            writes=["blog: CreateModel"],
            tells=INSERTS,
        ),
        Case(
            "the proxy that is watched is deleted",
            before=authors("insert", models=AUTHOR + PROXY, model="blog.Proxy"),
            after=authors("insert"),
            writes=["blog: DeleteModel"],
            tells=INSERTS,
        ),
        Case(
            "it gets an abstract base",
            before=authors("insert"),
            after=authors("insert", models=ABSTRACT),
            writes=[],
            tells=INSERTS,
        ),
        Case(
            "it gets a child with a table of its own, whose rows are its rows",
            before=authors("insert"),
            after=authors("insert", models=AUTHOR + CHILD),
            writes=["blog: CreateModel"],
            tells=INSERTS,
        ),
        Case(
            "the child is watched instead, where the parent's writes are no events",
            before=authors("insert", models=AUTHOR + CHILD),
            after=authors("insert", models=AUTHOR + CHILD, model="blog.Child"),
            writes=["blog: RemoveTrigger AddTrigger"],
            tells=[],
            watched="blog_child",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_changes_of_models_migrate_both_ways(project: Project, case: Case) -> None:
    """T1: the trigger follows its model, whatever happens to that."""
    walk(project, case)


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "fields come and go, and with them a listener",
            before=authors("insert", models=with_field("age = models.IntegerField(null=True)")),
            after=authors("insert", "update", models=with_field("born = models.DateField(null=True)")),
            writes=["blog: RemoveField AddField AlterTrigger"],
            answers="n\n",
            tells=SAVES,
        ),
        Case(
            "one is renamed",
            before=authors("insert", models=with_field("age = models.IntegerField(null=True)")),
            after=authors("insert", models=with_field("years = models.IntegerField(null=True)")),
            writes=["blog: RenameField"],
            answers="y\n",
            tells=INSERTS,
        ),
        Case(
            "T3: the type of one is altered",
            before=authors("insert", models=with_field("age = models.IntegerField(null=True)")),
            after=authors("insert", models=with_field("age = models.TextField(null=True)")),
            writes=["blog: AlterField"],
            tells=INSERTS,
        ),
        Case(
            "the column of one is renamed",
            before=authors("insert", models=with_field("age = models.IntegerField(null=True)")),
            after=authors("insert", models=with_field("age = models.IntegerField(null=True, db_column='years')")),
            writes=["blog: AlterField"],
            tells=INSERTS,
        ),
    ],
    ids=str,
)  # fmt: skip
def test_changes_of_fields_need_no_trigger_operation(project: Project, case: Case) -> None:
    """T3: a trigger names no column, so a table's columns are its own affair."""
    walk(project, case)


PARTS = model("Part")


def linked(*events: str, field: str = "parts", models: str = "") -> Files:
    """Return an app with a channel on the table of a ManyToManyField."""
    source = model("Author", f'{field} = models.ManyToManyField("Part")')
    return blog(
        models=PARTS + (models or source),
        channels=channel("Links", model=f"blog.author_{field}") if events else "",
        listeners=on(*events, of="blog.channels.Links"),
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "a channel is added",
            before=linked(),
            after=linked("insert"),
            writes=["blog: AddTrigger"],
            tells=[],
            watched="blog_author_parts",
        ),
        Case(
            "the field is renamed",
            before=linked("insert"),
            after=linked("insert", field="pieces"),
            writes=["blog: RemoveTrigger RenameField AddTrigger"],
            answers="y\n",
            tells=[],
            watched="blog_author_pieces",
        ),
        Case(
            "the field is removed",
            before=linked("insert"),
            after=linked(models=AUTHOR),
            writes=["blog: RemoveTrigger RemoveField"],
            tells=[],
        ),
        Case(
            "the model is renamed",
            before=linked("insert"),
            after=blog(
                models=PARTS + model("Writer", 'parts = models.ManyToManyField("Part")'),
                channels=channel("Links", model="blog.writer_parts"),
                listeners=on("insert", of="blog.channels.Links"),
            ),
            writes=["blog: RemoveTrigger RenameModel AddTrigger"],
            answers="y\n",
            tells=[],
            table="blog_writer",
            watched="blog_writer_parts",
        ),
    ],
    ids=str,
)
def test_triggers_follow_tables_of_many_to_many_fields(project: Project, case: Case) -> None:
    """T1: the table of a ManyToManyField follows its field."""
    walk(project, case)
