"""What ``verify``, ``check`` and ``listen`` say of django-pgpubsub's triggers and messages."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction

from pgpubsub_sql import checks
from pgpubsub_sql.management.commands import listen
from pgpubsub_sql.migrations_ops.audit import audit
from pgpubsub_sql.migrations_ops.problems import Problem
from pgpubsub_sql.sql.predecessor import old_triggers
from pgpubsub_sql.worker.processes import ExitStatus, WorkerOptions
from tests.app.channels import ItemChannel, Job
from tests.app.models import Item
from tests.moving.old import create_trigger, execute, keep, safe_name

ADOPT = "Run: python manage.py pgpubsub adopt"


def problems() -> list[Problem]:
    """Return what the audit says, and see that ``check --database`` says the same."""
    found = list(audit(connection).predecessor)
    warnings = checks.check_predecessor(databases=["default"])
    assert [one.id for one in warnings] == ["pgpubsub_sql.W205"] * len(found)
    assert [one.hint for one in warnings] == [one.remedy for one in found]
    assert {*found} <= {*audit(connection).all_problems()}
    return found


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """django-pgpubsub is installed, too: not every app has moved."""
    present = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "pgpubsub" or present(name))


def test_nothing_is_said_where_nothing_is_left(db: None) -> None:
    assert problems() == []


def test_an_old_table_without_messages_is_no_problem(old: None) -> None:
    assert problems() == []


def test_a_trigger_that_breaks_writes_is_named(db: None) -> None:
    """M5: an app was forgotten; nothing said so, and after the DROP every INSERT failed."""
    name = create_trigger(channel=safe_name(ItemChannel))
    with pytest.raises(ProgrammingError), transaction.atomic():
        Item.objects.create(name="cannot be written")
    (problem,) = problems()
    assert problem.channel == "app.ItemChannel"
    assert f"the trigger {name} of django-pgpubsub on app_item" in problem.text
    assert "every write that fires it fails" in problem.text
    execute(problem.remedy.rpartition("execute ")[2])
    Item.objects.create(name="can be written")
    assert problems() == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_trigger_that_doubles_messages_is_named(old: None, durable: bool) -> None:
    """M5: PGTRIGGER_MIGRATIONS = False, so that no migration removes it."""
    name = create_trigger(channel=safe_name(ItemChannel), durable=durable)
    (problem,) = problems()
    assert (problem.channel, name in problem.text) == ("app.ItemChannel", True)
    assert "beside what this package sends" in problem.text
    assert "manage.py makemigrations" in problem.remedy


def test_a_trigger_of_no_channel_is_named_unless_their_app_is_installed(old: None) -> None:
    """M5"""
    create_trigger(channel="pgpubsub_d5f69")
    (problem,) = problems()
    assert problem.channel == ""
    assert problem.sentence.startswith("The trigger pgtrigger_pgpubsub_d5f69_6a1b2 on app_item is")


@pytest.mark.usefixtures("old", "both")
def test_what_has_not_moved_yet_is_no_problem() -> None:
    """M16: one app at a time."""
    create_trigger(channel="pgpubsub_d5f69")
    keep("pgpubsub_d5f69", {})
    assert problems() == []
    keep(safe_name(Job), {})
    assert [one.channel for one in problems()] == ["app.Job"]


def test_waiting_messages_are_named(old: None) -> None:
    keep(safe_name(Job), {})
    keep("pgpubsub_00000", {})
    first, second = problems()
    assert {first.channel, second.channel} == {"app.Job", ""}
    assert first.remedy == second.remedy == ADOPT
    assert "1 of django-pgpubsub's messages waiting in pgpubsub_notification" in first.text


def test_triggers_of_others_are_left_out(old: None) -> None:
    """Those of django-pgtrigger, ours, and the one of the old table."""
    execute(
        "CREATE FUNCTION pgtrigger_protect_6a1b2() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NEW; END'"
    )
    execute(
        "CREATE TRIGGER protect BEFORE INSERT ON app_item "
        "FOR EACH ROW EXECUTE FUNCTION pgtrigger_protect_6a1b2()"
    )
    assert old_triggers(connection) == []


def test_a_role_that_may_not_read_the_table_still_verifies(old: None) -> None:
    keep(safe_name(Job), {})
    execute("CREATE ROLE moving_reader")
    execute("GRANT SELECT ON django_migrations TO moving_reader")
    execute("SET LOCAL ROLE moving_reader")
    found = list(audit(connection).predecessor)
    execute("RESET ROLE")
    assert found == []


def test_warnings_are_those_of_a_postgresql(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    assert checks.check_predecessor(databases=["default"]) == []


def test_listen_says_that_it_serves_its_own_channels_only(
    transactional_db: None,
    both: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """M16: the other's channels went unserved, and nobody said so."""
    monkeypatch.setattr(listen, "work", lambda options: ExitStatus.DONE)
    monkeypatch.setattr(WorkerOptions, "configure_logging", lambda self: None)
    call_command("listen", "--worker")
    assert "serves only channels of pgpubsub_sql" in caplog.text
