"""The tables of privileges have what the functions name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pgpubsub_sql.sql.privileges import HELPERS, needed_by
from pgpubsub_sql.sql.templates import load
from pgpubsub_sql.sql.trigger import Trigger
from tests.ledger import sql

pytestmark = pytest.mark.django_db

INVOKERS = {
    "pgpubsub_must_notify": {
        "pgpubsub_is_notified",
        "pgpubsub_bucket_v1",
        "pg_try_advisory_xact_lock_shared",
        "pg_try_advisory_lock",
        "pg_advisory_unlock",
    }
}
"""Helpers that run with their caller's rights, and so need what they call to be the caller's."""


def named(*templates: str) -> set[str]:
    """Return what of ours templates name, and of PostgreSQL's what sends."""
    text = "\n".join(map(load, templates))
    names = {*re.findall(r""":'?"(?:schema|helpers)"\.(pgpubsub_\w+)""", text)}
    names |= {*re.findall(r"\bpg_notify\b", text)}
    for invoker, called in INVOKERS.items():
        names |= called if invoker in names else set()
    return names


@pytest.mark.parametrize("name", HELPERS)
def test_the_table_has_what_a_helper_names(name: str) -> None:
    """F11: neither more nor less than its source."""
    used = named(f"helpers/{name.removeprefix('pgpubsub_')}") - {name}
    assert {one.name for one in HELPERS[name]} == used


def test_the_table_has_every_helper_that_runs_with_its_owners_rights() -> None:
    """F11."""
    rows = sql(
        "SELECT proname FROM pg_proc WHERE starts_with(proname, 'pgpubsub_')"
        " AND prosecdef AND prorettype <> 'trigger'::regtype"
    )
    assert {name for (name,) in rows} == {*HELPERS}


OWN = ("triggers/function", "triggers/ignored")


@pytest.mark.parametrize(
    ("options", "templates"),
    [
        ({"durable": True}, (*OWN, "triggers/store", "triggers/ring")),
        ({"durable": False}, (*OWN, "triggers/send")),
        (
            {"durable": True, "ordering_key": ("id",), "ignorable": False},
            ("triggers/function", "triggers/store", "triggers/ring", "triggers/key"),
        ),
    ],
)
def test_the_table_has_what_the_function_of_a_channel_names(
    options: dict[str, Any], templates: tuple[str, ...]
) -> None:
    """F11: by what the channel's options ask for."""
    trigger = Trigger(channel="c", model="app.item", after=("insert",), **options)
    assert {one.name for one in needed_by(trigger)} == named(*templates)
