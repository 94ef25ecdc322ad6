"""The operations, forwards and backwards."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.db import connection, migrations, models, router
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from pgpubsub_sql.errors import NotReady
from pgpubsub_sql.migrations_ops.operations import AddTrigger, AlterTrigger, RemoveTrigger
from pgpubsub_sql.sql.catalogue import installed_functions
from tests.migrations.harness import CATALOGUE, Installed
from tests.migrations.specifications import INSERTS, SAVES


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


def test_add_trigger_installs_and_backwards_drops_all(table: str, state: ProjectState) -> None:
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


def test_alter_trigger_keeps_triggers_of_unchanged_events(table: str, state: ProjectState) -> None:
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


def test_alter_trigger_to_another_channel_leaves_no_function(
    table: str, state: ProjectState
) -> None:
    """T2: written by hand, it leaves no function behind either."""
    operation = AlterTrigger(old=INSERTS, new=dataclasses.replace(SAVES, channel="app.Other"))
    forwards(AddTrigger(INSERTS), state)
    first = catalogue()
    forwards(operation, state)
    assert events() == ["insert", "update"]
    assert functions() == ["pgpubsub_channel_app__other"]
    backwards(operation, state)
    assert catalogue() == first


def test_remove_trigger_drops_the_function_too(table: str, state: ProjectState) -> None:
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


def test_triggers_are_dropped_although_the_model_is_gone(table: str, state: ProjectState) -> None:
    """T1: what was on its table can still be dropped, and nothing is installed without a table."""
    forwards(AddTrigger(INSERTS), state)
    forwards(RemoveTrigger(INSERTS), ProjectState())
    assert functions() == []
    forwards(AddTrigger(INSERTS), ProjectState())
    assert functions() == []


def test_nothing_is_installed_for_a_swapped_model(db: None, settings: Any) -> None:
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


def test_routers_decide_whether_an_operation_runs(
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


def test_an_empty_search_path_says_what_to_set(table: str, state: ProjectState) -> None:
    """T5: the error says what to set."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = nowhere")
    with pytest.raises(NotReady, match="search_path"):
        forwards(AddTrigger(INSERTS), state)


def test_each_schema_has_its_own_function_and_shares_helpers(
    table: str, state: ProjectState
) -> None:
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


def test_no_other_role_may_execute_a_channel_function(table: str, state: ProjectState) -> None:
    """P14: no other role makes a table of its own speak on the channel, with our rights."""
    forwards(AddTrigger(INSERTS), state)
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger")
        cursor.execute(
            "SELECT has_function_privilege('stranger', 'pgpubsub_channel_app__test()', 'execute')"
        )
        assert cursor.fetchone() == (False,)


def test_a_function_body_names_its_channel_and_app(table: str, state: ProjectState) -> None:
    """T4, F3: channel and app stand in the body, which every dump keeps; COMMENTs are not dumped."""
    odd = dataclasses.replace(SAVES, channel='it\'s "$pgpubsub$" \n DROP TABLE ö; --')
    forwards(AddTrigger(odd), state)
    function = installed_functions(connection)[odd.function]
    assert (function.app, function.channel) == ("app", odd.channel)
