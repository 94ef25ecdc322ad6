"""The reference says what the code says."""

from __future__ import annotations

import ast
import copy
import datetime
import enum
import inspect
import re
import textwrap
import uuid
from collections.abc import Coroutine, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, make_dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand
from django.db.models import Q
from django.db.models.functions import Upper
from django.dispatch import Signal

import pgpubsub_sql
from example.blog.channels import AuthorChannel, PostReads
from example.blog.models import Author, Post
from pgpubsub_sql import Retry, channels, checks, signals
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.commands.listen import Command
from pgpubsub_sql.payloads import Codec
from pgpubsub_sql.rows import columns, postgres_types
from pgpubsub_sql.sql.privileges import HELPERS, PRIVILEGES, Privilege
from pgpubsub_sql.worker import (
    backlog,
    batch,
    claims,
    list_batch,
    ordered_claims,
    timeouts,
    vacuuming,
    worker,
)
from pgpubsub_sql.worker.attempts import Attempt
from tests.conftest import ROOT
from tests.ledger import sql


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def rows(text: str, *, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column's heading is *first*."""
    (table,) = re.findall(rf"^\| {first} .*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


PROMISED = {
    "explanation/delivery.md": [
        f"A batch holds at most {batch.LARGEST_BATCH:,} messages, or `batch_size`",
        f"ends after {batch.BATCH_SECONDS * 1000:g} ms or {batch.BATCH_SAVEPOINTS} savepoints",
        f"The first batch of a channel holds {batch.FIRST_BATCH}.",
        f"at most {batch.QUICKEST_GROWTH} times as large",
        f"After {list_batch.FREE_OUTAGES} such batches in a row, one message",
        f"A batch ends after {list_batch.LIST_CALLS} calls, {batch.BATCH_SAVEPOINTS}",
        f"from key to key, up to {ordered_claims.KEYS} in one transaction",
        f"after every {vacuuming.VACUUM_MESSAGES:,} messages that it has handled",
        f"A table of more than {vacuuming.VACUUM_BYTES / 1_000_000:g} MB, indexes included",
        f"takes at most {100 / vacuuming.VACUUM_SHARE:g} % of the worker's time",
    ],
    "explanation/guarantees.md": [
        f"after about {batch.BATCH_SECONDS * 1000:g} ms or {batch.BATCH_SAVEPOINTS} savepoints",
        f"after {Retry(jitter=0).seconds(1):g} seconds, then {Retry(jitter=0).seconds(2):g}, "
        f"{Retry(jitter=0).seconds(3):g} and so on",
        f"the newest {backlog.MAX_WAITING / backlog.MEGABYTE:g} MB of each channel",
    ],
    "howto/batches.md": [
        f"{list_batch.LARGEST_LIST} messages, or `batch_size`",
    ],
    "reference/listen.md": [
        f"but at most {worker.MOST_LOOKS} times",
    ],
}
"""Words of the documentation, with the figures that the code has."""


@pytest.mark.parametrize("name", PROMISED)
def test_figures_are_those_of_the_code(name: str) -> None:
    text = " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
    for words in PROMISED[name]:
        assert words in text
    assert batch.BATCH_SAVEPOINTS < 64  # beyond which PostgreSQL gets slow
    assert claims.RESTART_SECONDS == timeouts.INTERRUPT_SECONDS == 1  # "a second"
    assert claims.LONGEST_RESTART_SECONDS == 10  # "at least every ten seconds"


def test_every_public_name_has_its_place() -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", page("api.md"), re.MULTILINE)
    assert sorted(documented) == pgpubsub_sql.__all__


def test_every_check_is_listed_as_its_module_says() -> None:
    listed = [
        [code.strip("`"), reports] for code, reports, _ in rows(page("checks.md"), first="id")
    ]
    assert listed == rows(checks.__doc__, first="id")


def test_every_function_is_listed_with_its_arguments(db: None) -> None:
    installed = sql(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE proname LIKE 'pgpubsub\\_%%' AND prorettype <> 'trigger'::regtype"
    )
    listed = [signature.strip("`") for signature, *_ in rows(page("sql.md"), first="function")]
    assert sorted(listed) == sorted(signature for (signature,) in installed)


def needs(privileges: Iterable[Privilege]) -> str:
    """Return privileges as the page has them: by what is granted, and on what."""
    names: dict[str, list[str]] = {}
    for one in privileges:
        names.setdefault(f"`{one.name}`", []).append(one.privilege)
    granted: dict[str, list[str]] = {}
    for name, what in names.items():
        granted.setdefault(", ".join(what), []).append(name)
    needed = [f"{what} on {', '.join(objects)}" for what, objects in granted.items()]
    return "; ".join(needed) or "nothing"


def test_every_privilege_is_listed() -> None:
    """F11: for whom migrate, verify and the commands ask for it."""
    asked = [[str(role), needs(PRIVILEGES[role])] for role in PRIVILEGES]
    asked += [[f"owns `{name}`", needs(HELPERS[name])] for name in HELPERS]
    assert rows(page("sql.md"), first="a role that") == asked


def test_every_signal_has_its_place() -> None:
    declared = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    documented = re.findall(r"^\.\. autodata:: (\w+)$", page("signals.md"), re.MULTILINE)
    assert documented == declared


def test_every_attribute_of_log_records_is_listed() -> None:
    attempt = Attempt(channel=PostReads, using="", name="", created_at=datetime.datetime.min)
    listed = [name.strip("`") for name, _ in rows(page("signals.md"), first="attribute")]
    assert listed == list(attempt.extra)


def options(command: BaseCommand) -> set[str]:
    parser = command.create_parser("manage.py", "listen")
    return {option for action in parser._actions for option in action.option_strings}


def test_every_option_of_listen_is_listed() -> None:
    listed = [
        option
        for cell, *_ in rows(page("listen.md"), first="option")
        for option in re.findall(r"--[\w-]+", cell)
    ]
    assert sorted(listed) == sorted(options(Command()) - options(BaseCommand()))


def examples() -> dict[str, str]:
    """Return the code in docstrings of public names."""
    documented = {
        name: inspect.getdoc(getattr(pgpubsub_sql, name)) for name in pgpubsub_sql.__all__
    }
    found = {
        name: re.search(r"::\n\n((?: {4}.*\n?|\n)+)", text) for name, text in documented.items()
    }
    return {name: textwrap.dedent(match[1]) for name, match in found.items() if match}


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test declares is forgotten after it."""
    monkeypatch.setattr(channels, "_declared", [*channels._declared])
    for name, value in vars(registry).items():
        monkeypatch.setattr(registry, name, copy.copy(value))


async def finish(coroutine: Coroutine[None, None, None]) -> None:
    await coroutine


@pytest.mark.parametrize("name", examples())
def test_the_example_of_a_docstring_runs(name: str, db: None, forgetful: None) -> None:
    today = datetime.date(2026, 1, 31)
    author = Author.objects.create(name="Zoë")
    post = Post.objects.create(author=author, title="Hello")
    names = {
        "datetime": datetime,
        "dataclass": dataclass,
        "pgpubsub_sql": pgpubsub_sql,
        "Author": Author,
        "AuthorChannel": AuthorChannel,
        "PostReads": PostReads,
        "Q": Q,
        "Upper": Upper,
        "date": today,
        "message": post,
        "post": post,
        "posts": [post],
        "request": SimpleNamespace(user=author),
        "response": SimpleNamespace(headers={"Retry-After": "60"}),
        "today": today,
    }
    awaits = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(examples()[name], name, "exec", flags=awaits, dont_inherit=True)
    raised = getattr(pgpubsub_sql, name)
    with (
        pytest.raises(raised)
        if name in {"Discard", "PartialFailure", "RetryAfter"}
        else nullcontext()
    ):
        if coroutine := eval(code, {"__name__": __name__} | names):
            async_to_sync(finish)(coroutine)


class Mood(enum.Enum):
    """As on the page."""

    CALM = "calm"


@dataclass
class Point:
    """As on the page."""

    x: int
    after: datetime.timedelta


DECLARED = {
    "Any": Any,
    "Decimal": Decimal,
    "Literal": Literal,
    "Mood": Mood,
    "Point": Point,
    "UUID": uuid.UUID,
    **{name: getattr(datetime, name) for name in ("date", "datetime", "time", "timedelta")},
}


def test_types_are_spelled_as_listed() -> None:
    for declared, json_text, spellings in rows(page("types.md"), first="declared"):
        annotation = eval(declared.strip("`").replace("\\|", "|"), DECLARED)
        codec = Codec(make_dataclass("One", [("x", annotation)]), "One")
        message = codec.decode(f'{{"x": {json_text.strip("`")}}}')
        assert codec.encode(message) == f'{{"x":{json_text.strip("`")}}}'
        for spelling in re.findall(r"`(.+?)`", spellings):
            assert codec.decode(f'{{"x": {spelling}}}') == message, spelling


def test_types_of_columns_are_listed() -> None:
    listed = {
        name
        for types, _ in rows(page("types.md"), first="type of the column")
        for name in re.findall(r"`(.+?)`", types)
    }
    assert listed == {*postgres_types.POSTGRES_TYPES, *columns.LOSSY}
