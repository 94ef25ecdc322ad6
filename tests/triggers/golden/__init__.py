"""The SQL of some channels, kept in files that are read and reviewed like code.

Each file is what ``migrate`` executes for one channel. To rewrite them after a change of the
templates: ``python -m tests.triggers.golden``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from pgpubsub_sql.sql import SQL
from pgpubsub_sql.sql.ddl import Target, create
from pgpubsub_sql.sql.trigger import VERSION, Trigger

HERE = Path(__file__).parent
VERSIONS = HERE / "versions.txt"
"""For each version of the templates the digest of the files that it wrote."""

GREW = '("new"."number" > ("old"."number"))'
"""``Q(new__number__gt=F("old__number"))``, compiled."""
EITHER = '(("new"."number" > 1 OR "old"."number" > 1))'
"""``Q(new__number__gt=1) | Q(old__number__gt=1)``, compiled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
    """A channel, and the table that it watches."""

    about: str
    trigger: Trigger
    stored: int
    """How many messages it stores of two rows that are inserted, updated, one deleted, and all
    truncated."""
    setup: str = ""
    """What makes the table; empty for that of the model ``app.Item``."""
    table: str = "app_item"
    schema: str = "public"
    partitioned: bool = False

    @property
    def target(self) -> Target:
        """Where it is installed, as the catalogue says."""
        return Target(
            db_table=self.table,
            schema=self.schema,
            helpers="public",
            app="app",
            qualified=SQL(f"{self.schema}.{self.table}"),
            watched=self.schema,
            partitioned=self.partitioned,
            type_schemas=(),
            installed={},
        )

    @property
    def text(self) -> str:
        """The file."""
        setup = [f"-- Needs: {line}" for line in self.setup.splitlines()]
        head = [f"-- {self.about}", f"-- Written by version {VERSION} of the templates.", *setup]
        return "\n".join(head) + "\n\n" + "\n\n".join(create(self.trigger, self.target)) + "\n"


def _trigger(**options: object) -> Trigger:
    return Trigger.of({"channel": "app.Items", "model": "app.item", **options})


GOLDEN = {
    "ephemeral_insert": Golden(
        about="Ephemeral, AFTER INSERT.",
        trigger=_trigger(after=("insert",)),
        stored=0,
    ),
    "durable": Golden(
        about="Durable, AFTER INSERT, UPDATE and DELETE.",
        trigger=_trigger(after=("insert", "update", "delete"), durable=True),
        stored=5,
    ),
    "watch_and_columns": Golden(
        about='Durable, AFTER UPDATE, watch = ["number"], columns = ["id", "name"].',
        trigger=_trigger(
            after=("update",), durable=True, watch=("number",), columns=("id", "name")
        ),
        stored=2,
    ),
    "condition": Golden(
        about='Durable, AFTER UPDATE, condition = Q(new__number__gt=F("old__number")).',
        trigger=_trigger(after=("update",), durable=True, condition=GREW),
        stored=2,
    ),
    "chosen": Golden(
        about=(
            'Durable, AFTER INSERT and DELETE, columns = ["id", "name"], '
            "condition = Q(new__number__gt=1) | Q(old__number__gt=1)."
        ),
        trigger=_trigger(
            after=("insert", "delete"), durable=True, columns=("id", "name"), condition=EITHER
        ),
        stored=2,
    ),
    "before_each_row": Golden(
        about="Ephemeral, BEFORE UPDATE, with the same condition, for each row.",
        trigger=_trigger(before=("update",), condition=GREW),
        stored=0,
    ),
    "truncate": Golden(
        about="Durable, AFTER TRUNCATE, never ignored.",
        trigger=_trigger(after=("truncate",), durable=True, ignorable=False),
        stored=1,
    ),
    "ordering_key": Golden(
        about='Durable, AFTER INSERT, ordering_key = "name".',
        trigger=_trigger(after=("insert",), durable=True, ordering_key=("name",)),
        stored=2,
    ),
    "partitioned": Golden(
        about="Durable, AFTER INSERT and UPDATE of a table with partitions.",
        trigger=_trigger(after=("insert", "update"), durable=True),
        stored=4,
        setup=(
            "CREATE TABLE parted (LIKE app_item INCLUDING DEFAULTS INCLUDING IDENTITY)"
            " PARTITION BY LIST (name);\n"
            "CREATE TABLE parted_all PARTITION OF parted DEFAULT;"
        ),
        table="parted",
        partitioned=True,
    ),
    "tenant": Golden(
        about="Durable, AFTER INSERT, in a schema other than that of our tables.",
        trigger=_trigger(after=("insert",), durable=True),
        stored=2,
        setup=(
            "CREATE SCHEMA tenant;\n"
            "CREATE TABLE tenant.app_item (LIKE app_item INCLUDING ALL);\n"
            "SET search_path = tenant, public;"
        ),
        schema="tenant",
    ),
}


def path(name: str) -> Path:
    """Return where the SQL of a channel is kept."""
    return HERE / f"{name}.sql"


def digest() -> str:
    """Return the digest of all files."""
    whole = "".join(path(name).read_text(encoding="utf-8") for name in sorted(GOLDEN))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def recorded() -> dict[int, str]:
    """Return the digest that was recorded for each version of the templates."""
    lines = VERSIONS.read_text(encoding="utf-8").splitlines() if VERSIONS.exists() else []
    return {int(version): found for version, found in map(str.split, lines)}
