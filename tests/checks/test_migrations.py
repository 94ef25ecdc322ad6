"""E011, W002, W003: are triggers in migrations? ``test_stale_labels.py`` has E010."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

import pgpubsub_sql
from tests.checks.support import found, report, trigger_channel

pytestmark = pytest.mark.usefixtures("blank")

WATCH = """
import pgpubsub_sql
from django.contrib.auth.models import Group
class Watch(pgpubsub_sql.TriggerChannel):
    model = Group
@pgpubsub_sql.post_insert_listener(Watch)
def watch(new): pass
"""


def test_w002_reports_an_app_without_migrations(install_app: Callable[..., None]) -> None:
    """P24: its trigger would never be taken away."""
    install_app("shop", channels=WATCH)
    message = report("W002")
    assert (
        "No migration installs the trigger of shop.channels.Watch: the app 'shop' has no" in message
    )
    assert "python manage.py makemigrations shop" in message


def test_w002_reports_a_migration_module_that_does_not_exist(
    install_app: Callable[..., None],
    settings: Any,
) -> None:
    install_app("shop", channels=WATCH)
    settings.MIGRATION_MODULES = {"shop": "nowhere.at.all"}
    assert "the app 'shop' has no migrations package" in report("W002")
    settings.MIGRATION_MODULES = {"shop": None}  # what people say who want none
    assert found() == []


def test_w002_reports_a_migrations_directory_without_init(
    install_app: Callable[..., None], tmp_path: Path
) -> None:
    """Django passes it over, too."""
    install_app("shop", channels=WATCH)
    (tmp_path / "shop" / "migrations").mkdir()
    assert "the app 'shop' has no migrations package" in report("W002")


def test_e011_reports_a_channel_outside_every_app() -> None:
    """M12: moved over, it lost its old trigger and got no new one."""
    channel = trigger_channel(__module__="config.channels")
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    message = report("E011")
    assert (
        "No migration installs the trigger of config.channels.Watch: its module belongs" in message
    )
    assert "INSTALLED_APPS" in message


def test_w002_accepts_an_app_with_migrations(install_app: Callable[..., None]) -> None:
    install_app("shop", channels=WATCH, migrations="")
    assert found() == []


def test_w003_reports_a_model_that_is_not_on_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel())(lambda new: None)
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(connection, "display_name", "SQLite")
    message = report("W003")
    assert "example.blog.channels.Watch is not installed: blog.Author is written to" in message
    assert "the database 'default', which is SQLite" in message
    assert "Route the model to PostgreSQL" in message
