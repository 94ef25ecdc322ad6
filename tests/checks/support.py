"""Channels to check, and what the checks report of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core import checks as django_checks

import pgpubsub_sql
from example.blog.models import Author
from pgpubsub_sql import checks


def found() -> list[django_checks.CheckMessage]:
    problems = [
        *checks.check_channels(),
        *checks.check_listeners(),
        *checks.check_migrations(),
        *checks.check_settings(),
    ]
    for problem in problems:
        problem.id = (problem.id or "").removeprefix("pgpubsub_sql.")
    return problems


def report(identifier: str) -> str:
    """Return what the one problem says, which must be of this kind."""
    (problem,) = found()
    assert problem.id == identifier
    is_error = identifier.startswith("E")
    assert problem.level == (django_checks.ERROR if is_error else django_checks.WARNING)
    return f"{problem.msg} {problem.hint or ''}"


def declare(
    base: type[pgpubsub_sql.Channel | pgpubsub_sql.TriggerChannel], name: str, **attributes: Any
) -> Any:
    """Declare a channel in the blog, whose app has migrations."""
    return type(name, (base,), {"__module__": "example.blog.channels", **attributes})


def trigger_channel(**attributes: Any) -> Any:
    return declare(pgpubsub_sql.TriggerChannel, "Watch", **{"model": Author, **attributes})


@dataclass
class Fields:
    """What several channels below inherit."""

    number: int
    text: str = ""


def vars_of(declaration: type) -> dict[str, Any]:
    return {"__annotations__": declaration.__annotations__, "text": ""}
