"""The text of a condition is the same wherever it is compiled, and fits into a function."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import F, JSONField, Q, Value
from django.db.models.functions import JSONObject
from django.db.models.lookups import Exact
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy

from pgpubsub_sql.sql import conditions
from pgpubsub_sql.sql.conditions import OLDEST_SERVER, compile_condition
from pgpubsub_sql.sql.quoting import DOLLAR_TAG
from pgpubsub_sql.sql.trigger import Trigger
from tests.conditions.corpus import CONDITIONS, compiled
from tests.conditions.models import Thing
from tests.conftest import ROOT

GOLDEN = Path(__file__).with_name("corpus.sql")
WRITE_ANEW = "from tests.conditions.corpus import compiled; print(compiled(), end='')"
TOKENS = re.compile(
    r""""(?:old|new)"\."(?P<column>(?:[^"]|"")+)"|E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*[']""",
    re.DOTALL,
)
"""Columns and literals, which may contain anything."""


def sql(condition: Q) -> str:
    return compile_condition(Thing, condition).sql


def elsewhere(**environment: str) -> str:
    """Return the corpus compiled by another process, which has no server."""
    command = [sys.executable, "-m", "django", "shell", "--verbosity=0", "--command", WRITE_ANEW]
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PGHOST": "/nonexistent"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | settings | environment,
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout


def test_the_text_is_that_of_the_golden_file() -> None:
    """T6: this test runs under both drivers and every version of Python and Django.

    To rewrite the file: python -m django shell --settings tests.settings -v 0 -c
    with WRITE_ANEW as the command, into corpus.sql.
    """
    assert compiled() == GOLDEN.read_text(encoding="utf-8")


def test_the_text_does_not_depend_on_the_process() -> None:
    """T6: on its hash seed, locale and time zone, nor on a server."""
    for seed in "1", "2":
        text = elsewhere(PYTHONHASHSEED=seed, TZ="Asia/Tokyo", LC_ALL="C", PYTHONUTF8="1")
        assert text == GOLDEN.read_text(encoding="utf-8")


def test_the_text_does_not_depend_on_the_request() -> None:
    """Time zone and language are the project's, not the request's."""
    condition = Q(new__moment__date="2026-01-31", new__name=gettext_lazy("Monday"))
    with timezone.override("Asia/Tokyo"), translation.override("de"):
        text = sql(condition)
        assert timezone.get_current_timezone_name() == "Asia/Tokyo"
        assert translation.get_language() == "de"
    assert text == (
        """((("new"."moment" AT TIME ZONE 'UTC')::date = '2026-01-31'::date"""
        """ AND "new"."name" = 'Monday'))"""
    )


@pytest.mark.django_db
def test_the_text_is_for_the_oldest_server() -> None:
    """The connection in use keeps the version of its own server."""
    condition = Q(Exact(JSONObject(a=F("new__number")), Value({}, JSONField())))
    assert "JSONB_BUILD_OBJECT" in sql(condition)
    assert connection.pg_version != OLDEST_SERVER


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_one_expression(name: str) -> None:
    """T7: it can be combined with others, whatever its parts are."""
    condition = compile_condition(Thing, CONDITIONS[name])
    assert DOLLAR_TAG not in condition.sql
    bare = TOKENS.sub("x", condition.sql)
    depth = 0
    for index, character in enumerate(bare):
        depth += {"(": 1, ")": -1}.get(character, 0)
        assert depth > 0 or index == len(bare) - 1
    assert depth == 0


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_specification_finds_the_columns_of_its_condition(name: str) -> None:
    """In the SQL, which is all that a migration has of it."""
    condition = compile_condition(Thing, CONDITIONS[name]).sql
    trigger = Trigger(channel="app.Test", model="app.thing", condition=condition)
    columns = {token["column"] for token in TOKENS.finditer(condition)} - {None}
    assert trigger.condition_columns == columns


@pytest.mark.parametrize("gis", [False, True])
def test_conditions_compile_without_postgresql(monkeypatch: pytest.MonkeyPatch, gis: bool) -> None:
    """F21: if development has SpatiaLite, production will have PostGIS."""
    wanted = sql(Q(new__moment__hour=3))
    features = SimpleNamespace(gis_enabled=gis)
    lite = SimpleNamespace(vendor="sqlite", features=features)
    loaded: list[str] = []
    monkeypatch.setattr(connections, "all", lambda: [lite])
    monkeypatch.setattr(
        conditions, "import_string", lambda path: loaded.append(path) or DatabaseWrapper
    )  # as PostGIS needs libraries that not every machine has
    assert sql(Q(new__moment__hour=3)) == wanted
    assert loaded == ["django.contrib.gis.db.backends.postgis.base.DatabaseWrapper"] * gis
