"""A project with the channel ``blog.Authors``: what commands print, and what others install."""

from __future__ import annotations

import json
from typing import Any

from tests.migrations.harness import Database, Project

INSERT = "INSERT INTO blog_author (name) VALUES ('Zoë')"

FUNCTION = "pgpubsub_channel_blog__authors"

TRIGGER = "pgpubsub_blog__authors_after_insert"


def rows(project: Project, *argv: str, code: int = 0) -> list[dict[str, Any]]:
    output = project.run("pgpubsub", *argv, "--json", code=code)
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(output)[0]
    return found


def state(project: Project, name: str = "blog.Authors") -> str:
    (row,) = rows(project, "ls", name)
    return str(row["state"])


def of_another(app: str, channel: str, function: str, database: Database) -> None:
    """Create the function of a channel whose body says that it belongs to *app*."""
    tag = json.dumps({"app": app, "channel": channel})
    database.sql(
        f'CREATE FUNCTION "{function}"() RETURNS trigger LANGUAGE plpgsql '
        f"AS '\n-- pgpubsub_sql {tag}\nBEGIN RETURN NULL; END'"
    )


def leave_over(project: Database) -> None:
    """Create a function of ours that nothing needs, as if its migration had been deleted."""
    of_another("blog", "blog.Gone", "pgpubsub_channel_blog.Gone", project)
    of_another("shop", "shop.Theirs", "pgpubsub_channel_shop.Theirs", project)
