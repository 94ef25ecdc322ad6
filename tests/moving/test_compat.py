"""``pgpubsub_sql.compat``: migrations that depend on those of django-pgpubsub."""

from __future__ import annotations

import pytest

from tests.migrations.harness import Project
from tests.migrations.versions import AUTHOR, blog
from tests.moving.old import STORE, TABLE, TRIGGER

APPS = ["pgpubsub_sql", "pgpubsub_sql.compat", "blog"]
NAMES = [
    "0001_initial",
    "0002_notification_created_at",
    "0003_notification_db_version",
    "0004_notification_pgpubsub_notification_set_db_version",
    "0005_alter_notification_options",
    "0006_payload_stores_proper_jsonb",
]
CHANNEL = "pgpubsub_d5f69"
OLD_TRIGGER = TRIGGER.format(
    name="pgtrigger_pgpubsub_d5f69_6a1b2",
    app="blog",
    model="Author",
    store=STORE.format(channel=CHANNEL),
    channel=CHANNEL,
    when="AFTER",
    table="blog_author",
)
MIGRATION = f"""
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial"), ("pgpubsub", "0003_notification_db_version")]
    operations = [
        migrations.RunSQL({OLD_TRIGGER!r}, migrations.RunSQL.noop),
        migrations.RunSQL("INSERT INTO blog_author (name) VALUES ('by a migration')"),
    ]
"""


@pytest.fixture
def moved(project: Project) -> Project:
    """A project whose migrations made an old trigger, and wrote a row that fired it."""
    project.configure(apps=APPS)
    project.write(blog(models=AUTHOR))
    project.run("makemigrations", "blog")
    project.write({"blog/migrations/0002_trigger.py": MIGRATION})
    return project


def channels(project: Project) -> list[str]:
    return [name for (name,) in project.sql("SELECT channel FROM pgpubsub_notification")]


def test_a_fresh_database_can_be_migrated(moved: Project) -> None:
    """M6, M7: the migration depends on the app, and its trigger on the table."""
    moved.run("migrate")
    assert channels(moved) == [CHANNEL]
    assert "No changes detected" in moved.run("makemigrations", "--check")


@pytest.mark.parametrize("applied", [3, 6])
def test_a_database_that_has_the_table_keeps_it_and_its_rows(moved: Project, applied: int) -> None:
    """M6: also where not all of the old migrations have run."""
    moved.run("migrate", "pgpubsub_sql")
    moved.sql(TABLE)
    moved.sql("INSERT INTO pgpubsub_notification (channel, payload) VALUES ('kept', '{}')")
    for name in NAMES[:applied]:
        moved.sql(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('pgpubsub', %s, now())",
            name,
        )
    moved.run("migrate")
    assert channels(moved) == ["kept", CHANNEL]
    assert "No changes detected" in moved.run("makemigrations", "--check")
