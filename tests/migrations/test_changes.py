"""What happens when a project changes: every case there and back, a migration at a time.

``makemigrations`` writes the right operations in one run and is quiet then; after every single
migration every write succeeds, and tells what it should or nothing; going back restores what was.
"""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, assert_quiet, install, tell, walk
from tests.migrations.harness import Files, Project
from tests.migrations.versions import (
    AUTHOR,
    WRITER,
    authors,
    blog,
    channel,
    model,
    on,
    people,
    watcher,
)

INSERTS = ["blog.Authors INSERT"]
SAVES = ["blog.Authors INSERT", "blog.Authors UPDATE"]
ALL = [*SAVES, "blog.Authors DELETE"]


def with_field(field: str) -> str:
    return model("Author", field)


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "a channel is added",
            before=authors(),
            after=authors("insert", "update", "delete"),
            writes=["blog: AddTrigger"],
            tells=ALL,
        ),
        Case(
            "a listener is added",
            before=authors("insert"),
            after=authors("insert", "update"),
            writes=["blog: AlterTrigger"],
            tells=SAVES,
        ),
        Case(
            "a listener is removed",
            before=authors("insert", "update"),
            after=authors("insert"),
            writes=["blog: AlterTrigger"],
            tells=INSERTS,
        ),
        Case(
            "P1: what was listened to after the fact is before it",
            before=authors("insert", "delete"),
            after=blog(
                models=AUTHOR,
                channels=channel("Authors"),
                listeners=on("insert", "delete", when="before"),
            ),
            writes=["blog: AlterTrigger"],
            tells=["blog.Authors INSERT", "blog.Authors DELETE"],
        ),
        Case(
            "T2: the last listener is removed",
            before=authors("insert", "update"),
            after=blog(models=AUTHOR, channels=channel("Authors")),
            writes=["blog: RemoveTrigger"],
            tells=[],
        ),
        Case(
            "T2: a channel is removed",
            before=authors("insert", "update", "delete"),
            after=authors(),
            writes=["blog: RemoveTrigger"],
            tells=[],
        ),
        Case(
            "a channel becomes ephemeral",
            before=authors("insert"),
            after=authors("insert", lock_notifications=False),
            writes=["blog: AlterTrigger"],
            tells=INSERTS,
        ),
        Case(
            "a channel becomes durable",
            before=authors("insert", lock_notifications=False),
            after=authors("insert"),
            writes=["blog: AlterTrigger"],
            tells=INSERTS,
        ),
        Case(
            "a channel gets another name in PostgreSQL",
            before=authors("insert"),
            after=authors("insert", channel_name="writers"),
            writes=["blog: RemoveTrigger AddTrigger"],
            tells=["writers INSERT"],
        ),
        Case(
            "a channel's class is renamed",
            before=authors("insert"),
            after=blog(
                models=AUTHOR,
                channels=channel("Writers"),
                listeners=on("insert", of="blog.channels.Writers"),
            ),
            writes=["blog: RemoveTrigger AddTrigger"],
            tells=["blog.Writers INSERT"],
        ),
        Case(
            "P5: a channel moves to another module",
            before=authors("insert"),
            after={
                **blog(models=AUTHOR, listeners=on("insert", of="blog.elsewhere.Authors")),
                "blog/channels.py": "from blog.elsewhere import Authors",
                "blog/elsewhere.py": f"import pgpubsub_sql\n\n{channel('Authors')}",
            },
            writes=[],
            tells=INSERTS,
        ),
        Case(
            "P4: two channels of one model change at once",
            before=blog(
                models=AUTHOR,
                channels=channel("Authors") + channel("News"),
                listeners=on("insert") + on("insert", of="blog.channels.News"),
            ),
            after=blog(
                models=AUTHOR,
                channels=channel("Authors") + channel("News"),
                listeners=on("update") + on("delete", of="blog.channels.News"),
            ),
            writes=["blog: AlterTrigger AlterTrigger"],
            tells=["blog.Authors UPDATE", "blog.News DELETE"],
        ),
        Case(
            "a channel moves to another model",
            before=authors("insert", models=AUTHOR + WRITER),
            after=authors("insert", models=AUTHOR + WRITER, model="blog.Writer"),
            writes=["blog: RemoveTrigger AddTrigger"],
            tells=INSERTS,
            table="blog_writer",
        ),
    ],
    ids=str,
)
def test_channels(project: Project, case: Case) -> None:
    """T1, T2, T9, P4, P5, P24: see the cases."""
    walk(project, case)


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
def test_models(project: Project, case: Case) -> None:
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
def test_fields(project: Project, case: Case) -> None:
    """T3: a trigger names no column, so a table's columns are its own affair."""
    walk(project, case)


PARTS = model("Part")
LINKS = channel("Links", model="blog.author_parts")


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
def test_tables_of_many_to_many_fields(project: Project, case: Case) -> None:
    """T1: the table of a ManyToManyField follows its field."""
    walk(project, case)


# --- Several apps ---------------------------------------------------------------------------------


@pytest.fixture(params=["aardvark", "zebra"])
def label(request: pytest.FixtureRequest) -> str:
    """An app that sorts before ``people``, and one that sorts after it."""
    return str(request.param)


AGED = model("Author", "age = models.IntegerField(null=True)")
BORN = model("Author", "born = models.DateField(null=True)")


def across(label: str) -> list[Case]:
    """Return the cases of a model in ``people`` that the app *label* watches."""
    before = people(AUTHOR) | watcher(label, "people.Author")
    inserts = [f"{label}.Authors INSERT"]
    renamed = {"answers": "y\n", "table": "people_writer"}
    common = {"was": "people_author", "table": "people_author", "apps": (label, "people")}
    return [
        Case(
            "T1: the model is renamed",
            before=before,
            after=people(WRITER) | watcher(label, "people.Writer"),
            writes=["people: RenameModel"],
            tells=inserts,
            **common | renamed,
        ),
        Case(
            "T1: the model is renamed, and a listener added",
            before=before,
            after=people(WRITER) | watcher(label, "people.Writer", "insert", "update"),
            writes=["people: RenameModel", f"{label}: AlterTrigger"],
            tells=[*inserts, f"{label}.Authors UPDATE"],
            **common | renamed,
        ),
        Case(
            "T1: the model is renamed, and the channel removed",
            before=before,
            after=people(WRITER) | watcher(label, None),
            writes=[f"{label}: RemoveTrigger", "people: RenameModel"],
            tells=[],
            **common | renamed,
        ),
        Case(
            "T2: the model is deleted with the channel",
            before=before,
            after=people("") | watcher(label, None),
            writes=[f"{label}: RemoveTrigger", "people: DeleteModel"],
            tells=[],
            **common,
        ),
        Case(
            "the model is deleted, and the channel moves to another",
            before=before,
            after=people(AGED.replace("Author", "Writer")) | watcher(label, "people.Writer"),
            # Django begins with the first app, and takes of each what need not wait.
            writes=[
                *(["people: CreateModel"] if label > "people" else []),
                f"{label}: RemoveTrigger",
                f"people: {'' if label > 'people' else 'CreateModel '}DeleteModel",
                f"{label}: AddTrigger",
            ],
            tells=inserts,
            **common | {"table": "people_writer"},
        ),
        Case(
            "the model gets another field, and the channel another listener",
            before=before,
            after=people(AGED) | watcher(label, "people.Author", "insert", "delete"),
            writes=["people: AddField", f"{label}: AlterTrigger"],
            tells=[*inserts, f"{label}.Authors DELETE"],
            **common,
        ),
        Case(
            "the model's table is renamed, and a listener added",
            before=before,
            after=people(model("Author", meta='db_table = "elsewhere"'))
            | watcher(label, "people.Author", "insert", "update"),
            writes=["people: AlterModelTable", f"{label}: AlterTrigger"],
            tells=[*inserts, f"{label}.Authors UPDATE"],
            **common | {"table": "elsewhere"},
        ),
        Case(
            "the model moves into the channel's app",
            before=before,
            after=people("")
            | watcher(label, f"{label}.Author")
            | {f"{label}/models.py": f"from django.db import models\n\n{AUTHOR}"},
            writes=[f"{label}: RemoveTrigger CreateModel AddTrigger", "people: DeleteModel"],
            tells=inserts,
            **common | {"table": f"{label}_author"},
        ),
        Case(
            "the channel moves into the model's app",
            before=before,
            after=people(AUTHOR)
            | watcher(label, None)
            | {
                "people/channels.py": f"import pgpubsub_sql\n\n{channel(model='people.Author')}",
                "people/listeners.py": "import pgpubsub_sql\n\n"
                + on("insert", of="people.channels.Authors"),
            },
            writes=sorted(["people: AddTrigger", f"{label}: RemoveTrigger"]),
            tells=["people.Authors INSERT"],
            **common,
        ),
    ]


@pytest.mark.parametrize("number", range(len(across(""))), ids=[str(case) for case in across("")])
def test_a_model_of_another_app(project: Project, label: str, number: int) -> None:
    """T1, T2, P24: in any order of apps, what needs the other comes after it."""
    walk(project, across(label)[number])


def test_a_model_that_goes_after_its_channel(project: Project, label: str) -> None:
    """T1: there is no way back to its trigger, and nothing stumbles over it: neither migrate, nor
    the checks that it runs."""
    project.configure(apps=["pgpubsub_sql", label, "people"])
    install(project, people(), watcher(label, "people.Author"))
    install(project, watcher(label, None))
    install(project, people(""))
    for target in ("0001", "zero"):
        project.run("migrate", label, target)
        assert project.catalogue() == frozenset()
        project.run("migrate")
    assert "agree" in project.run("pgpubsub", "verify")


def test_a_channel_that_goes_after_its_model_was_renamed(project: Project, label: str) -> None:
    """T1: what takes it away knows the name that the model has by then, and the way back, too."""
    project.configure(apps=["pgpubsub_sql", label, "people"])
    install(project, people(), watcher(label, "people.Author"))
    install(project, people(WRITER), watcher(label, "people.Writer"), answers="y\n")
    renamed = project.catalogue()
    install(project, watcher(label, None))
    assert_quiet(project)
    assert project.catalogue() == frozenset()
    project.run("migrate", label, "0001")
    assert project.catalogue() == renamed
    assert tell(project, "people_writer") == [f"{label}.Authors INSERT"]
