"""What happens when the options of a channel change, or the fields that they name."""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, walk
from tests.migrations.harness import Files, Project
from tests.migrations.versions import blog, channel, model, on

EVENTS = ("insert", "update", "delete")
ALL = [f"blog.Authors {event.upper()}" for event in EVENTS]


def authors(*fields: str, **options: object) -> Files:
    """Return an app with one channel that tells of everything, but for its options."""
    return blog(models=model("Author", *fields), channels=channel(**options), listeners=on(*EVENTS))


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "T13: it is watched by row",
            before=authors(),
            after=authors(level="row"),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
    ],
    ids=str,
)
def test_an_option(project: Project, case: Case) -> None:
    """T6, T9: every change of an option is one operation, and none is none."""
    walk(project, case)
