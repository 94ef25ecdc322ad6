"""What people import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import pgpubsub_sql
from pgpubsub_sql import errors, models
from pgpubsub_sql.channels import BaseChannel
from tests.conftest import ROOT

PUBLIC = [
    "Change",
    "Channel",
    "Discard",
    "Handled",
    "ListenerFilterProvider",
    "Notification",
    "PartialFailure",
    "Retry",
    "RetryAfter",
    "TriggerChannel",
    "anotify",
    "batch_listener",
    "ignore",
    "listener",
    "notification_context",
    "notify",
    "notify_many",
    "post_delete_listener",
    "post_insert_listener",
    "post_save_listener",
    "post_truncate_listener",
    "post_update_listener",
    "pre_delete_listener",
    "pre_insert_listener",
    "pre_save_listener",
    "pre_update_listener",
    "process_stored_notifications",
    "set_notification_context",
    "trigger_listener",
]


def test_the_public_names() -> None:
    assert pgpubsub_sql.__all__ == PUBLIC == sorted(PUBLIC)
    assert all(hasattr(pgpubsub_sql, name) for name in PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_says_what_it_is_for(name: str) -> None:
    public = getattr(pgpubsub_sql, name)
    assert public.__doc__
    members = vars(public).items() if isinstance(public, type) else ()
    for member, value in members:
        if (
            not member.startswith("_")
            and inspect.isroutine(value)
            and value.__module__ == public.__module__
        ):
            assert inspect.getdoc(value), f"{name}.{member}"


def test_every_error_says_what_it_is_and_is_in_the_tree() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for error in classes:
        assert issubclass(error, errors.PubSubError)
        assert error.__doc__
        assert f" {error.__name__} " in f"{errors.__doc__} ".replace("\n", " ")


def test_the_model_is_there_once_the_apps_are() -> None:
    assert pgpubsub_sql.Notification is models.Notification
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        pgpubsub_sql.Nothing  # noqa: B018


def test_importing_needs_neither_settings_nor_apps() -> None:
    """models.py may import what declares channels, and settings.py anything."""
    program = "import pgpubsub_sql, sys; sys.exit('pgpubsub_sql.models' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT, env={})


@pytest.mark.parametrize(
    "option",
    ["lock_notifications", "channel_name", "retry", "timeout", "ordering_key", "batch_size"],
)
def test_an_option_of_a_channel_is_no_field(option: str) -> None:
    assert option in BaseChannel.__annotations__
    assert hasattr(BaseChannel, option)
