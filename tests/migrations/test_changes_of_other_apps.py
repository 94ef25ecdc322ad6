"""Channels on models of other apps, migrated there and back, one migration at a time."""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, assert_quiet, install, tell, walk
from tests.migrations.harness import Project
from tests.migrations.versions import (
    AUTHOR,
    WRITER,
    channel,
    model,
    on,
    people,
    watcher,
)

SAVES = ["blog.Authors INSERT", "blog.Authors UPDATE"]


@pytest.fixture(params=["aardvark", "zebra"])
def label(request: pytest.FixtureRequest) -> str:
    """An app that sorts before ``people``, and one that sorts after it."""
    return str(request.param)


AGED = model("Author", "age = models.IntegerField(null=True)")


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
def test_triggers_on_models_of_other_apps_migrate_both_ways(
    project: Project, label: str, number: int
) -> None:
    """T1, T2, P24: in any order of apps, what needs the other comes after it."""
    walk(project, across(label)[number])


def test_a_model_deleted_after_its_channel_leaves_no_obstacle(project: Project, label: str) -> None:
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


def test_a_channel_is_removed_after_its_model_was_renamed(project: Project, label: str) -> None:
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
