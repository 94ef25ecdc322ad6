"""Channels in another app than their model: two migrations, of which one does the work of both."""

from __future__ import annotations

import re
from typing import Any

from tests.migrations.harness import Project
from tests.migrations.versions import people, watcher
from tests.moving.old import STORE, TABLE, TRIGGER

CHANNEL, NAME = "pgpubsub_d5f69", "pgtrigger_pgpubsub_d5f69_6a1b2"
VALUES: dict[str, Any] = {"app": "people", "model": "Author", "channel": CHANNEL, "when": "AFTER"}
OLD = TRIGGER.format(name=NAME, store=STORE.format(**VALUES), table="people_author", **VALUES)
DROPPED = f"""[
        migrations.RunSQL(
            "DROP TRIGGER {NAME} ON people_author",
            "CREATE TRIGGER {NAME} AFTER INSERT ON people_author "
            "FOR EACH ROW EXECUTE FUNCTION {NAME}()",
        ),"""
FAILS = 'migrations.RunSQL("SELECT no_such_column"),\n    ]'


def sent(project: Project) -> tuple[int, int]:
    """Write one row; return how many messages are stored of all, there and here."""
    project.sql("INSERT INTO people_author (name) VALUES ('Ann')")
    ((there,),) = project.sql("SELECT count(*) FROM pgpubsub_notification")
    ((here,),) = project.sql("SELECT count(*) FROM pgpubsub_sql_notification")
    return there, here


def test_one_migration_replaces_the_trigger_of_another_app(project: Project) -> None:
    """M2: between two migrations there was no trigger, and what was written then was lost."""
    project.configure(apps=["pgpubsub_sql", "people", "shop"])
    project.write({**people(), **watcher("shop", None)})
    project.run("makemigrations", "people")
    project.run("migrate")
    project.sql(TABLE)
    project.sql(OLD)
    project.write(watcher("shop", "people.Author"))
    project.run("makemigrations", "shop")
    name, file = project.migrations("shop")[0], "shop/migrations/{}.py"
    merged = project.source("shop", name).replace("operations = [", f"operations = {DROPPED}")
    assert DROPPED in merged
    failing = re.sub(r"\]\s*$", FAILS, merged)
    project.write({file.format(name): failing})
    project.run("migrate", code=1)
    assert sent(project) == (1, 0)
    project.write({file.format(name): merged})
    project.run("migrate")
    assert sent(project) == (1, 1)
    project.run("migrate", "shop", "zero")
    assert sent(project) == (2, 1)
