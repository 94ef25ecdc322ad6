"""Changes of channels, migrated there and back, one migration at a time.

``makemigrations`` writes the right operations in one run and then finds nothing more; after every
migration every write succeeds, and sends what it should or nothing; going back restores what was.
"""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, walk
from tests.migrations.harness import Project
from tests.migrations.versions import (
    AUTHOR,
    WRITER,
    authors,
    blog,
    channel,
    on,
)

INSERTS = ["blog.Authors INSERT"]
SAVES = ["blog.Authors INSERT", "blog.Authors UPDATE"]
ALL = [*SAVES, "blog.Authors DELETE"]


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
def test_changes_of_channels_migrate_both_ways(project: Project, case: Case) -> None:
    """T1, T2, T9, P4, P5, P24: see the cases."""
    walk(project, case)
