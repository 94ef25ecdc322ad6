"""The operations by themselves: describe, forwards, backwards, deconstruct, reduce."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.db import connection, migrations, models, router
from django.db.migrations import Migration
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations.base import Operation
from django.db.migrations.optimizer import MigrationOptimizer
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger
from pgpubsub_sql.migrations_ops.recorded_triggers import recorded_triggers
from pgpubsub_sql.sql.catalogue import installed_functions
from pgpubsub_sql.sql.trigger import Trigger
from tests.migrations.harness import CATALOGUE, Installed

INSERTS = Trigger(channel="app.Test", model="app.item", after=("insert",), durable=True)
SAVES = dataclasses.replace(INSERTS, after=("insert", "update"))
DELETES = dataclasses.replace(INSERTS, after=("delete",))
OTHER = dataclasses.replace(INSERTS, channel="app.Other")


def renamed(trigger: Trigger, model: str = "app.thing") -> Trigger:
    return dataclasses.replace(trigger, model=model)


@pytest.fixture
def state() -> ProjectState:
    """The models of an app with a table of its own."""
    state = ProjectState()
    CREATE_ITEM.state_forwards("app", state)
    return state


CREATE_ITEM = migrations.CreateModel(
    "Item",
    [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())],
    {"db_table": "test_item"},
)


@pytest.fixture
def table(db: None, state: ProjectState) -> str:
    """The table of that model."""
    with connection.schema_editor(atomic=False) as editor:
        CREATE_ITEM.database_forwards("app", editor, ProjectState(), state)
    return "test_item"


def forwards(operation: Operation, state: ProjectState) -> None:
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("app", editor, state, state)


def backwards(operation: Operation, state: ProjectState) -> None:
    with connection.schema_editor(atomic=False) as editor:
        operation.database_backwards("app", editor, state, state)


def catalogue(table: str = "test_item") -> set[Installed]:
    """Return what is installed on one table, and the functions that are called from it."""
    with connection.cursor() as cursor:
        cursor.execute(CATALOGUE)
        found = [Installed(*row) for row in cursor.fetchall()]
    functions = {one.function for one in found if one.table == table}
    return {
        one for one in found if one.table == table or (not one.table and one.function in functions)
    }


def events(table: str = "test_item") -> list[str]:
    """Return the last words of the names of the table's triggers."""
    return sorted(one.name.rpartition("_")[2] for one in catalogue(table) if one.table)


def rewritten(operation: Operation) -> Operation:
    """Return *operation* as a migration file has it."""
    migration = Migration("0001_test", "app")
    migration.operations = [operation]
    scope: dict[str, Any] = {}
    exec(MigrationWriter(migration).as_string(), scope)
    (found,) = scope["Migration"].operations
    return found


def said(*operations: Operation) -> list[tuple[str, list[Any], dict[str, Any]]]:
    return [operation.deconstruct() for operation in operations]


# --- Each of them ---------------------------------------------------------------------------------


def test_add_trigger(table: str, state: ProjectState) -> None:
    """T2, T9: backwards takes the function, too."""
    operation = AddTrigger(INSERTS.deconstruct())
    assert operation.describe() == "Add trigger of channel app.Test to app.item"
    assert operation.formatted_description().startswith("+ ")
    assert operation.migration_name_fragment == "test_trigger"
    assert operation.reversible
    assert operation.reduces_to_sql

    before = state.clone()
    operation.state_forwards("app", state)
    assert state == before

    forwards(operation, state)
    assert events() == ["insert"]
    backwards(operation, state)
    assert catalogue() == set()
    assert functions() == []

    name, args, kwargs = operation.deconstruct()
    assert (name, args) == ("AddTrigger", [])
    assert kwargs == {"trigger": INSERTS.deconstruct()}


def test_alter_trigger(table: str, state: ProjectState) -> None:
    """T13: back and forth, an event that is kept keeps its trigger, disabled or not."""
    operation = AlterTrigger(old=SAVES.deconstruct(), new=INSERTS.deconstruct())
    assert operation.describe() == "Alter trigger of channel app.Test on app.item"
    assert operation.formatted_description().startswith("~ ")
    assert operation.migration_name_fragment == "alter_test_trigger"

    forwards(AddTrigger(SAVES), state)
    first = catalogue()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE test_item DISABLE TRIGGER pgpubsub_app__test_after_insert")
    forwards(operation, state)
    assert events() == ["insert"]
    backwards(operation, state)
    assert catalogue() == first
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgenabled FROM pg_trigger WHERE tgname ~ 'test_after' ORDER BY tgname"
        )
        assert cursor.fetchall() == [("D",), ("O",)]

    name, args, kwargs = operation.deconstruct()
    assert (name, args) == ("AlterTrigger", [])
    assert kwargs == {"old": SAVES.deconstruct(), "new": INSERTS.deconstruct()}


def test_alter_trigger_to_another_channel(table: str, state: ProjectState) -> None:
    """T2: written by hand, it leaves no function behind either."""
    operation = AlterTrigger(old=INSERTS, new=dataclasses.replace(SAVES, channel="app.Other"))
    forwards(AddTrigger(INSERTS), state)
    first = catalogue()
    forwards(operation, state)
    assert events() == ["insert", "update"]
    assert functions() == ["pgpubsub_channel_app__other"]
    backwards(operation, state)
    assert catalogue() == first


def test_remove_trigger(table: str, state: ProjectState) -> None:
    """T2: the function goes with its triggers."""
    operation = RemoveTrigger(INSERTS.deconstruct())
    assert operation.describe() == "Remove trigger of channel app.Test from app.item"
    assert operation.formatted_description().startswith("- ")
    assert operation.migration_name_fragment == "remove_test_trigger"

    forwards(AddTrigger(INSERTS), state)
    first = catalogue()
    forwards(operation, state)
    assert catalogue() == set()
    assert functions() == []
    backwards(operation, state)
    assert catalogue() == first

    name, args, kwargs = operation.deconstruct()
    assert (name, args) == ("RemoveTrigger", [])
    assert kwargs == {"trigger": INSERTS.deconstruct()}


def functions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE proname IN"
            "('pgpubsub_channel_app__test', 'pgpubsub_channel_app__other')"
        )
        return [name for (name,) in cursor.fetchall()]


def test_a_model_that_is_gone(table: str, state: ProjectState) -> None:
    """T1: what was on its table can still be dropped, and nothing is installed without a table."""
    forwards(AddTrigger(INSERTS), state)
    forwards(RemoveTrigger(INSERTS), ProjectState())
    assert functions() == []
    forwards(AddTrigger(INSERTS), ProjectState())
    assert functions() == []


def test_a_model_that_is_swapped(db: None, settings: Any) -> None:
    """P24: it has no table, so nothing is installed; Django makes none either."""
    settings.TEST_ITEM_MODEL = "other.Thing"
    state = ProjectState()
    fields = [("id", models.BigAutoField(primary_key=True))]
    swapped = migrations.CreateModel("Item", fields, {"swappable": "TEST_ITEM_MODEL"})
    swapped.state_forwards("app", state)
    forwards(AddTrigger(INSERTS), state)
    assert functions() == []


class Elsewhere:
    """A router that keeps the app from this database."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return False if app_label == "app" else None


def test_a_model_that_lives_elsewhere(
    table: str, state: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routers decide, by the model, in every direction."""
    monkeypatch.setattr(router, "routers", [Elsewhere()])
    forwards(AddTrigger(INSERTS), state)
    assert catalogue() == set()
    monkeypatch.undo()
    forwards(AddTrigger(INSERTS), state)
    monkeypatch.setattr(router, "routers", [Elsewhere()])
    backwards(AddTrigger(INSERTS), state)
    forwards(AlterTrigger(INSERTS, SAVES), state)
    forwards(RemoveTrigger(INSERTS), state)
    assert events() == ["insert"]


def test_no_schema_to_install_into(table: str, state: ProjectState) -> None:
    """T5: the error says what to set."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = nowhere")
    with pytest.raises(NotReady, match="search_path"):
        forwards(AddTrigger(INSERTS), state)


def test_each_schema_has_its_own(table: str, state: ProjectState) -> None:
    """T5: a tenant's triggers come and go with the tenant, and use the helpers that all share."""

    def functions(table: str) -> list[str]:
        """Return the schemas of what the table's triggers call."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pronamespace::regnamespace::text FROM pg_trigger "
                "JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = %s::regclass",
                [table],
            )
            return [schema for (schema,) in cursor.fetchall()]

    forwards(AddTrigger(INSERTS), state)
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA tenant")
        cursor.execute("SET LOCAL search_path = tenant, public")
        cursor.execute("CREATE TABLE tenant.test_item (LIKE public.test_item INCLUDING ALL)")
    forwards(AddTrigger(INSERTS), state)
    assert functions("tenant.test_item") == ["tenant"]
    assert functions("public.test_item") == ["public"]
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO tenant.test_item (id, name) VALUES (7, 'mine')")
        cursor.execute("SELECT payload->'new'->>'name' FROM public.pgpubsub_sql_notification")
        assert cursor.fetchall() == [("mine",)]
    forwards(RemoveTrigger(INSERTS), state)
    assert functions("tenant.test_item") == []
    assert functions("public.test_item") == ["public"]


def test_a_function_is_nobodys_to_use(table: str, state: ProjectState) -> None:
    """P14: no other role makes a table of its own speak on the channel, with our rights."""
    forwards(AddTrigger(INSERTS), state)
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger")
        cursor.execute(
            "SELECT has_function_privilege('stranger', 'pgpubsub_channel_app__test()', 'execute')"
        )
        assert cursor.fetchone() == (False,)


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [AddTrigger(SAVES), AlterTrigger(SAVES, DELETES), RemoveTrigger(SAVES)],
    ids=lambda operation: type(operation).__name__,
)
def test_what_is_written_is_what_is_read(operation: Operation) -> None:
    """T14: plain values alone, under a path that stays."""
    found = rewritten(operation)
    assert said(found) == said(operation)
    assert type(found).__module__ == "pgpubsub_sql.migrations_ops.operations"


def test_a_specification_written_by_hand() -> None:
    """T9: lists will do, and the case of a model's name does not matter."""
    operation = AddTrigger({"channel": "app.Test", "model": "app.Item", "after": ["insert"]})
    assert operation.trigger == dataclasses.replace(INSERTS, durable=False)
    assert operation.references_model("ITEM", "app")
    assert not operation.references_model("item", "blog")


def test_every_field_is_written() -> None:
    """T14: what a later release adds to the defaults does not change what is written today."""
    fields = [field.name for field in dataclasses.fields(Trigger)]
    assert list(INSERTS.deconstruct()) == fields
    assert fields == [
        *("channel", "model", "after", "before", "level", "durable"),
        *("columns", "watch", "condition", "timezone", "ordering_key", "ignorable", "version"),
    ]


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ({"channel": "c", "model": "app.item", "colour": 1}, "A trigger has no 'colour'.*newer"),
        ({"channel": "c"}, "A trigger needs a 'model'"),
        ({"model": "app.item"}, "A trigger needs a 'channel'"),
    ],
)
def test_a_specification_that_is_none(specification: dict[str, Any], message: str) -> None:
    """T14: the error names the key, and what may be the matter."""
    with pytest.raises(TypeError, match=message):
        AddTrigger(specification)


def test_names_for_people_have_one_line() -> None:
    """T8: sqlmigrate shows the description in a comment, which a line break would end."""
    operation = AddTrigger(dataclasses.replace(INSERTS, channel="one\nDROP TABLE two; --"))
    assert operation.describe() == "Add trigger of channel one DROP TABLE two; -- to app.item"


# --- The tag --------------------------------------------------------------------------------------


def test_the_function_says_whose_it_is(table: str, state: ProjectState) -> None:
    """T4, F3: channel and app stand in the body, which every dump keeps; COMMENTs are not dumped."""
    odd = dataclasses.replace(SAVES, channel='it\'s "$pgpubsub$" \n DROP TABLE ö; --')
    forwards(AddTrigger(odd), state)
    function = installed_functions(connection)[odd.function]
    assert (function.app, function.channel) == ("app", odd.channel)


# --- Optimizing -----------------------------------------------------------------------------------

CREATE = migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True))])
CREATE_THING = migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))])
AGE = ("age", models.IntegerField())
ADD_AGE = migrations.AddField("Item", *AGE)
CREATE_WITH_AGE = migrations.CreateModel("Item", [*CREATE.fields, AGE])
RENAME = migrations.RenameModel("Item", "Thing")
DELETE = migrations.DeleteModel("Item")
ELSEWHERE = migrations.CreateModel("Place", [("id", models.BigAutoField(primary_key=True))])
DATA = migrations.RunSQL("UPDATE app_item SET id = id")
NARROW = dataclasses.replace(INSERTS, columns=("id", "age"))

REDUCED: list[tuple[str, list[Operation], list[Operation]]] = [
    ("add, alter", [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)], [AddTrigger(SAVES)]),
    ("add, remove", [AddTrigger(INSERTS), RemoveTrigger(INSERTS)], []),
    (
        "alter, alter",
        [AlterTrigger(INSERTS, SAVES), AlterTrigger(SAVES, DELETES)],
        [AlterTrigger(INSERTS, DELETES)],
    ),
    ("there and back", [AlterTrigger(INSERTS, SAVES), AlterTrigger(SAVES, INSERTS)], []),
    ("alter, remove", [AlterTrigger(INSERTS, SAVES), RemoveTrigger(SAVES)], [RemoveTrigger(INSERTS)]),
    ("remove, add again", [RemoveTrigger(INSERTS), AddTrigger(INSERTS)], []),
    ("remove, add another", [RemoveTrigger(INSERTS), AddTrigger(SAVES)], [AlterTrigger(INSERTS, SAVES)]),
    (
        "two channels, interleaved",
        [AddTrigger(INSERTS), AddTrigger(OTHER), AlterTrigger(INSERTS, SAVES), RemoveTrigger(OTHER)],
        [AddTrigger(SAVES)],
    ),
    ("across a field", [CREATE, AddTrigger(INSERTS), ADD_AGE], [CREATE_WITH_AGE, AddTrigger(INSERTS)]),
    (
        "a field, across a trigger",
        [ADD_AGE, AddTrigger(INSERTS), migrations.RemoveField("Item", "age")],
        [AddTrigger(INSERTS)],
    ),
    (
        "a whole life",
        [CREATE, AddTrigger(INSERTS), ADD_AGE, AlterTrigger(INSERTS, SAVES), RemoveTrigger(SAVES), DELETE],
        [],
    ),
    (
        "across a rename",
        [CREATE, AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), RENAME],
        [CREATE_THING, AddTrigger(renamed(SAVES))],
    ),
    (
        "altered, then renamed",
        [AlterTrigger(INSERTS, SAVES), RENAME, AlterTrigger(renamed(SAVES), renamed(DELETES))],
        [RENAME, AlterTrigger(renamed(INSERTS), renamed(DELETES))],
    ),
    (
        "across another model",
        [AddTrigger(INSERTS), ELSEWHERE, AlterTrigger(INSERTS, SAVES)],
        [ELSEWHERE, AddTrigger(SAVES)],
    ),
]  # fmt: skip

KEPT: list[tuple[str, list[Operation]]] = [
    ("data between", [AddTrigger(INSERTS), DATA, AlterTrigger(INSERTS, SAVES)]),
    ("data between, removed", [AddTrigger(INSERTS), DATA, RemoveTrigger(INSERTS)]),
    ("a trigger and its model", [CREATE, AddTrigger(INSERTS)]),
    ("a trigger, and its model deleted", [RemoveTrigger(INSERTS), DELETE]),
    ("columns that are named", [AddTrigger(NARROW), ADD_AGE]),
    ("a column that is named goes", [ADD_AGE, AddTrigger(NARROW), migrations.RemoveField("Item", "age")]),
    ("a specification that does not follow", [AddTrigger(INSERTS), AlterTrigger(SAVES, DELETES)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operations", "reduced"),
    [case[1:] for case in REDUCED],
    ids=[case[0] for case in REDUCED],
)
def test_what_is_reduced(operations: list[Operation], reduced: list[Operation]) -> None:
    """T9: squashing leaves what counts; neither we nor Django's operations are in the way."""
    found = MigrationOptimizer().optimize(operations, "app")
    assert [name for name, _, _ in said(*found)] == [name for name, _, _ in said(*reduced)]
    assert said(*(one for one in found if is_ours(one))) == said(
        *(one for one in reduced if is_ours(one))
    )


def is_ours(operation: Operation) -> bool:
    return isinstance(operation, (AddTrigger, AlterTrigger, RemoveTrigger))


@pytest.mark.parametrize("operations", [case[1] for case in KEPT], ids=[case[0] for case in KEPT])
def test_what_is_not_reduced(operations: list[Operation]) -> None:
    """T9: what would no longer do the same stays as it is."""
    assert said(*MigrationOptimizer().optimize(operations, "app")) == said(*operations)


# --- What is recorded -----------------------------------------------------------------------------


def unknown(trigger: Trigger) -> Trigger:
    """Return what equals nothing that is declared, so that makemigrations makes it good."""
    return dataclasses.replace(trigger, version=0)


SEPARATE = migrations.SeparateDatabaseAndState
RECORDED: list[tuple[str, list[Operation], list[Trigger]]] = [
    ("added", [AddTrigger(INSERTS)], [INSERTS]),
    ("altered", [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)], [SAVES]),
    ("removed", [AddTrigger(INSERTS), RemoveTrigger(INSERTS)], []),
    ("renamed", [AddTrigger(INSERTS), RENAME], [renamed(INSERTS)]),
    ("in the state", [SEPARATE(state_operations=[AddTrigger(INSERTS)])], [INSERTS]),
    ("in the database alone", [SEPARATE(database_operations=[AddTrigger(INSERTS)])], []),
    ("beside SQL", [migrations.RunSQL("", state_operations=[AddTrigger(INSERTS)])], [INSERTS]),
    (
        "renamed, and its name taken by another",
        [AddTrigger(INSERTS), RENAME, CREATE, AddTrigger(OTHER)],
        [renamed(INSERTS), OTHER],
    ),
    (
        "renamed before, by a package that knows nothing of it",
        [CREATE, RENAME, migrations.RenameModel("Thing", "Part"), AddTrigger(INSERTS)],
        [renamed(INSERTS, "app.part")],
    ),
    (
        "altered in two branches",
        [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), AlterTrigger(INSERTS, DELETES)],
        [unknown(DELETES)],
    ),
    (
        "altered in two branches, and then made good",
        [
            *(AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), AlterTrigger(INSERTS, DELETES)),
            AlterTrigger(unknown(DELETES), DELETES),
        ],
        [DELETES],
    ),
    ("added in two branches", [AddTrigger(INSERTS), AddTrigger(SAVES)], [unknown(SAVES)]),
    (
        "altered in one branch, removed in another",
        [AddTrigger(INSERTS), AlterTrigger(INSERTS, SAVES), RemoveTrigger(INSERTS)],
        [unknown(INSERTS)],
    ),
    (
        "removed in one branch, altered in another",
        [AddTrigger(INSERTS), RemoveTrigger(INSERTS), AlterTrigger(INSERTS, SAVES)],
        [unknown(SAVES)],
    ),
    (
        "renamed in the state",
        [AddTrigger(INSERTS), SEPARATE(state_operations=[SEPARATE(state_operations=[RENAME])])],
        [renamed(INSERTS)],
    ),
]


@pytest.mark.parametrize(
    ("operations", "triggers"), [case[1:] for case in RECORDED], ids=[case[0] for case in RECORDED]
)
def test_what_is_recorded(operations: list[Operation], triggers: list[Trigger]) -> None:
    """T1: the fold over the migrations knows what is installed, and under which name."""
    graph = MigrationGraph()
    migration = Migration("0001_initial", "app")
    migration.operations = operations
    graph.add_node(("app", "0001_initial"), migration)
    recorded = recorded_triggers(graph).triggers
    assert list(recorded.values()) == triggers
    assert set(recorded) == {("app", trigger.channel) for trigger in triggers}
