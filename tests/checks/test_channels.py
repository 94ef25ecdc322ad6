"""E001, E002, E003, E008 and W004: how channels are declared."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import models
from django.db.models import Q

import pgpubsub_sql
from example.blog.models import Author
from tests.checks.support import declare, found, report, trigger_channel

pytestmark = pytest.mark.usefixtures("blank")


def test_nothing_is_reported_of_nothing() -> None:
    assert found() == []


def test_e001_reports_fields_without_dataclass() -> None:
    class Forgotten(pgpubsub_sql.Channel):
        number: int

    message = report("E001")
    assert "Forgotten" in message
    assert "'number'" in message
    assert "Forgotten with @dataclass" in message


def test_e001_reports_a_field_whose_type_cannot_be_sent() -> None:
    @dataclass
    class Instance(pgpubsub_sql.Channel):
        author: Author

    message = report("E001")
    assert "field 'author'" in message
    assert "declare its primary key" in message


def test_e001_reports_an_annotated_option() -> None:
    @dataclass
    class Annotated(pgpubsub_sql.Channel):
        number: int
        lock_notifications: bool = True  # type: ignore[misc]

    assert (
        "Annotated annotates its option 'lock_notifications', which makes it a field. Remove"
        in report("E001")
    )


def test_e001_reports_an_annotated_option_of_a_trigger_channel() -> None:
    @dataclass
    class Annotated(pgpubsub_sql.TriggerChannel):
        model = Author
        watch: tuple[str, ...] = ("name",)  # type: ignore[misc]

    assert "Annotated annotates its option 'watch', which makes it a field. Remove" in report(
        "E001"
    )


def test_e001_reports_a_field_of_a_trigger_channel() -> None:
    @dataclass
    class Rows(pgpubsub_sql.TriggerChannel):
        number: int

    message = report("E001")
    assert "Rows declares the field 'number'" in message
    assert "or make it a Channel" in message


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_e001_reports_a_name_that_postgresql_cannot_hold(name: str) -> None:
    declare(pgpubsub_sql.Channel, "Named", channel_name=name)
    message = report("E001")
    assert "Named has a channel_name that PostgreSQL cannot hold" in message
    assert message.rstrip().endswith("Choose another.")


def test_e001_reports_an_accept_raw_notify_that_is_not_a_boolean() -> None:
    declare(pgpubsub_sql.Channel, "Sale", accept_raw_notify="no")
    assert "has the accept_raw_notify 'no': set True or False." in report("E001")


def test_e001_accepts_well_declared_channels() -> None:
    @dataclass
    class Good(pgpubsub_sql.Channel):
        number: int
        model: str | None = None
        at: datetime.datetime | None = None
        lock_notifications = True
        channel_name = "ä name %s \"'"

    @dataclass
    class GoodRows(pgpubsub_sql.TriggerChannel):
        model = Author
        lock_notifications = True

    declare(pgpubsub_sql.Channel, "Empty")
    assert found() == []


def test_e002_reports_two_channels_with_one_name() -> None:
    """P5: the peer's names collide, and nobody is told."""
    declare(pgpubsub_sql.Channel, "One")
    declare(pgpubsub_sql.Channel, "Two", channel_name="blog.One")
    message = report("E002")
    assert (
        "example.blog.channels.One, example.blog.channels.Two are all called 'blog.One' in "
        "PostgreSQL" in message
    )
    assert "channel_name" in message


def test_e002_reports_namesakes_in_two_modules_of_one_app() -> None:
    declare(pgpubsub_sql.Channel, "One")
    declare(pgpubsub_sql.Channel, "One", __module__="example.blog.other")
    assert "example.blog.other.One" in report("E002")


def test_e002_accepts_different_names() -> None:
    for number in (129, 1148):
        declare(pgpubsub_sql.Channel, f"Channel{number}")
    assert found() == []


class AbstractThing(models.Model):
    class Meta:
        abstract = True
        app_label = "app"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("app.Nothing", "doesn't have a 'Nothing' model"),
        ("nowhere.Thing", "No installed app with label 'nowhere'"),
        ("Author", "'Author' is not a label of the form app_label.ModelName."),
        ("auth.User.groups", "'auth.User.groups' is not a label of the form app_label.ModelName."),
        (AbstractThing, "is not a concrete model"),
        (int, "is not a concrete model"),
        (None, "is not a concrete model"),
    ],
)
def test_e003_reports_a_model_that_does_not_exist(model: Any, said: str) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel(model=model))(lambda new: None)
    message = report("E003")
    assert "example.blog.channels.Watch has no model to watch" in message
    assert said in message
    assert '"blog.Author"' in message


def test_e003_reports_a_model_that_is_not_set() -> None:
    pgpubsub_sql.post_insert_listener(declare(pgpubsub_sql.TriggerChannel, "Bare"))(lambda: None)
    assert "Bare has no model to watch: none is set." in report("E003")


@pytest.mark.parametrize("model", [Author, "blog.Author", "blog.author", "auth.User"])
def test_e003_accepts_a_class_and_a_label(model: Any) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel(model=model))(lambda new: None)
    assert found() == []


def test_e003_ignores_a_base_class_without_listeners() -> None:
    declare(pgpubsub_sql.TriggerChannel, "Base")
    assert found() == []


def test_e008_reports_every_option_that_does_not_fit_the_model() -> None:
    channel = trigger_channel(columns=("nmae",), watch=("age",), condition=Q(new__nome="x"))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    problems = found()
    assert [problem.id for problem in problems] == ["E008"] * 3
    first = problems[0].msg
    assert first.startswith("example.blog.channels.Watch: columns names 'nmae', but blog.Author")
    assert "Did you mean 'name'?" in first


def test_e008_accepts_options_that_fit() -> None:
    channel = trigger_channel(columns=("name",), watch="name", condition=Q(new__name="x"))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    assert found() == []


def test_e008_reports_an_ignorable_that_is_not_a_boolean() -> None:
    """F64."""
    channel = trigger_channel(ignorable=0)
    pgpubsub_sql.post_save_listener(channel)(lambda **fields: None)
    assert "ignorable is 0: give True or False." in report("E008")


def test_e008_is_silent_without_a_model() -> None:
    channel = trigger_channel(model="app.Nothing", columns=("name",))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    report("E003")


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("lock_notification", True, "lock_notifications"),
        ("lock_notifcations", True, "lock_notifications"),
        ("column", ("name",), "columns"),
        ("excludes", ("name",), "exclude"),
        ("conditions", ~Q(new__name=""), "condition"),
        ("order_key", "name", "ordering_key"),
    ],
)
def test_w004_reports_a_misspelled_option(name: str, value: object, meant: str) -> None:
    trigger_channel(**{name: value})
    message = report("W004")
    assert f"example.blog.channels.Watch sets {name!r}, which is not an option." in message
    assert f"Did you mean {meant!r}?" in message


def test_w004_accepts_attributes_of_ones_own() -> None:
    attributes = {"batch": 7, "durable": True, "_lock_notification": 1, "models": lambda: None}
    trigger_channel(lock_notifications=True, **attributes)
    fields = {"__annotations__": {"time_out": int}, "time_out": 3, "columns_": 1}
    dataclass(declare(pgpubsub_sql.Channel, "Sale", **fields))
    assert found() == []
