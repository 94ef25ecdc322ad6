"""What is rendered for some channels is kept, and works as it stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

import pytest
from django.db import connection
from django.db.models import F, Q

from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.sql import SQL, templates
from pgpubsub_sql.sql.conditions import compile_condition
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.sql.trigger import VERSION
from tests.app.models import Item
from tests.conftest import ROOT
from tests.programs import client
from tests.triggers.golden import EITHER, GOLDEN, GREW, digest, path, recorded
from tests.triggers.tables import sql

ALL = pytest.mark.parametrize("name", GOLDEN)

MIGRATING = {
    *("plan", "some_rows", "try_row", "try_condition"),
    *("drop_function", "drop_trigger", "grant_function", "restore_trigger"),
}
"""Templates that migrations execute, and that leave nothing which a new version would replace."""

WRITES = """
INSERT INTO {table} (name, number, amount, data) VALUES ('a', 1, 0, '{{}}'), ('b', 2, 0, '{{}}');
UPDATE {table} SET number = number + 1;
DELETE FROM {table} WHERE name = 'a';
TRUNCATE {table};
"""
COUNT = """
SELECT count(*), count(payload -> '$stale') FROM public.pgpubsub_sql_notification
WHERE channel = 'app.Items';
"""


@ALL
def test_a_golden_file_is_what_the_templates_write(name: str) -> None:
    """To rewrite them: python -m tests.triggers.golden"""
    assert path(name).read_text(encoding="utf-8") == GOLDEN[name].text


def test_no_golden_file_changes_without_the_version_of_the_templates() -> None:
    """A channel that is installed is replaced by a migration only if the version is another."""
    assert recorded()[VERSION] == digest()


@ALL
def test_psql_takes_a_golden_file(name: str, db: None) -> None:
    """With a table and our helpers it is a channel: writes are told, and nothing is stale."""
    golden = GOLDEN[name]
    script = "\n".join(
        ["BEGIN;", golden.setup, f"\\i '{path(name)}'", WRITES.format(table=golden.table), COUNT]
    )
    command = [client("psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
    options = ["--set=ON_ERROR_STOP=1", f"--dbname={connection.settings_dict['NAME']}"]
    done = subprocess.run([*command, *options], input=script, capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", f"{golden.stored}|0\n")


@ALL
def test_a_golden_file_is_what_migrate_executes(name: str, db: None) -> None:
    golden = GOLDEN[name]
    if golden.setup:
        sql(golden.setup)
    names = {"schema": golden.schema, "helpers": "public", "app": "app"}
    target = find_target(connection, golden.trigger, golden.table, **names)
    assert "\n\n".join(create(golden.trigger, target)) + "\n" in golden.text


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Q(new__number__gt=F("old__number")), GREW),
        (Q(new__number__gt=1) | Q(old__number__gt=1), EITHER),
    ],
)
def test_the_conditions_are_the_compiled_ones(condition: Q, text: str) -> None:
    assert compile_condition(Item, condition).sql == text


def test_every_line_of_a_function_is_in_a_golden_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a line could change without a new version of the templates."""
    written: set[tuple[str, str]] = set()
    check_names = templates._check_names

    def note(template: str, names: set[str], values: Mapping[str, str | SQL]) -> None:
        check_names(template, names, values)
        lines, _ = templates._parsed(templates.load(template))
        written.update((template, one.text) for one in lines if templates._is_wanted(one, values))

    monkeypatch.setattr(templates, "_check_names", note)
    for golden in GOLDEN.values():
        assert golden.text
    for name, text in templates.templates("triggers").items():
        if name not in MIGRATING:
            for line in text.splitlines():
                assert (f"triggers/{name}", line) in written, f"{name}: {line}"


def test_the_explanation_follows_the_file() -> None:
    """Every line that docs/design/0003-triggers.md quotes stands in the file, in that order."""
    page = (ROOT / "docs" / "design" / "0003-triggers.md").read_text(encoding="utf-8")
    heads = re.findall(r"^\* (`.*?`)(?=[:, ]|$)", page.partition("line by line")[2], re.MULTILINE)
    rest = path("ordering_key").read_text(encoding="utf-8")
    assert len(heads) > 25
    for head in heads:
        _, found, rest = rest.partition(head.strip("`"))
        assert found, head
