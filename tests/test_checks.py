"""Each system check with a case that it reports and one that it lets pass."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.apps.registry import Apps
from django.core import checks as django_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, models
from django.db.models import Q

import pgpubsub_sql
from example.blog.models import Author
from pgpubsub_sql import checks
from pgpubsub_sql.checks import exposure
from tests.registries import blank, install_app  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("blank")


def found() -> list[django_checks.CheckMessage]:
    problems = [
        *checks.check_channels(),
        *checks.check_listeners(),
        *checks.check_migrations(),
        *checks.check_settings(),
    ]
    for problem in problems:
        problem.id = (problem.id or "").removeprefix("pgpubsub_sql.")
    return problems


def report(identifier: str) -> str:
    """Return what the one problem says, which must be of this kind."""
    (problem,) = found()
    assert problem.id == identifier
    is_error = identifier.startswith("E")
    assert problem.level == (django_checks.ERROR if is_error else django_checks.WARNING)
    return f"{problem.msg} {problem.hint or ''}"


def declare(
    base: type[pgpubsub_sql.Channel | pgpubsub_sql.TriggerChannel], name: str, **attributes: Any
) -> Any:
    """Declare a channel in the blog, whose app has migrations."""
    return type(name, (base,), {"__module__": "example.blog.channels", **attributes})


def trigger_channel(**attributes: Any) -> Any:
    return declare(pgpubsub_sql.TriggerChannel, "Watch", **{"model": Author, **attributes})


@dataclass
class Fields:
    """What several channels below inherit."""

    number: int
    text: str = ""


def test_nothing_declared_is_nothing_wrong() -> None:
    assert found() == []


# E001: definition.


def test_e001_a_subclass_without_dataclass() -> None:
    class Forgotten(pgpubsub_sql.Channel):
        number: int

    message = report("E001")
    assert "Forgotten" in message
    assert "'number'" in message
    assert "Forgotten with @dataclass" in message


def test_e001_a_type_that_cannot_travel() -> None:
    @dataclass
    class Instance(pgpubsub_sql.Channel):
        author: Author

    message = report("E001")
    assert "field 'author'" in message
    assert "declare its primary key" in message


def test_e001_an_option_that_is_annotated() -> None:
    @dataclass
    class Annotated(pgpubsub_sql.Channel):
        number: int
        lock_notifications: bool = True  # type: ignore[misc]

    assert (
        "Annotated annotates its option 'lock_notifications', which makes it a field. Remove"
        in report("E001")
    )


def test_e001_a_field_on_a_trigger_channel() -> None:
    @dataclass
    class Rows(pgpubsub_sql.TriggerChannel):
        number: int

    message = report("E001")
    assert "Rows declares the field 'number'" in message
    assert "or make it a Channel" in message


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_e001_a_name_that_postgres_cannot_hold(name: str) -> None:
    declare(pgpubsub_sql.Channel, "Named", channel_name=name)
    message = report("E001")
    assert "Named has a channel_name that PostgreSQL cannot hold" in message
    assert message.rstrip().endswith("Choose another.")


def test_e001_well_declared() -> None:
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


# E002: duplicate names.


def test_e002_two_channels_of_one_name() -> None:
    """P5: the peer's names collide, and nobody is told."""
    declare(pgpubsub_sql.Channel, "One")
    declare(pgpubsub_sql.Channel, "Two", channel_name="blog.One")
    message = report("E002")
    assert (
        "example.blog.channels.One, example.blog.channels.Two are all called 'blog.One' in "
        "PostgreSQL" in message
    )
    assert "channel_name" in message


def test_e002_two_modules_of_one_app() -> None:
    declare(pgpubsub_sql.Channel, "One")
    declare(pgpubsub_sql.Channel, "One", __module__="example.blog.other")
    assert "example.blog.other.One" in report("E002")


def test_e002_names_that_differ() -> None:
    for number in (129, 1148):
        declare(pgpubsub_sql.Channel, f"Channel{number}")
    assert found() == []


# E003: model.


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
def test_e003_no_such_model(model: Any, said: str) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel(model=model))(lambda new: None)
    message = report("E003")
    assert "example.blog.channels.Watch has no model to watch" in message
    assert said in message
    assert '"blog.Author"' in message


def test_e003_no_model_at_all() -> None:
    pgpubsub_sql.post_insert_listener(declare(pgpubsub_sql.TriggerChannel, "Bare"))(lambda: None)
    assert "Bare has no model to watch: none is set." in report("E003")


@pytest.mark.parametrize("model", [Author, "blog.Author", "blog.author", "auth.User"])
def test_e003_a_model(model: Any) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel(model=model))(lambda new: None)
    assert found() == []


def test_e003_a_base_class_that_nobody_listens_to_needs_no_model() -> None:
    declare(pgpubsub_sql.TriggerChannel, "Base")
    assert found() == []


# E004: unknown channel.


def test_e004_an_unknown_channel() -> None:
    declare(pgpubsub_sql.Channel, "Sale")
    pgpubsub_sql.listener("blog.Sal")(sold := lambda: None)
    message = report("E004")
    assert f"{__name__}.{sold.__qualname__} listens to a channel that is not declared. " in message
    assert "Did you mean 'blog.Sale'?" in message


def test_e004_a_channel_declared_later() -> None:
    """P25"""
    pgpubsub_sql.listener("blog.Sale")(lambda: None)
    declare(pgpubsub_sql.Channel, "Sale")
    assert found() == []


# E005: signature.


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda amount: None,
            "the channel has no field 'amount', and the parameter has no default",
        ),
        (lambda number, *, amount: None, "no field 'amount'"),
        (lambda number, /: None, "'number' is positional-only, but fields are passed by name"),
        (lambda self, number: None, "no field 'self'"),
        (lambda old, number: None, "no field 'old'"),
        (dict, "its signature cannot be read"),
    ],
)
def test_e005_a_listener_that_cannot_be_called(function: Any, said: str) -> None:
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))
    pgpubsub_sql.listener(channel)(function)
    message = report("E005")
    assert function.__qualname__ in message
    assert "cannot be called by example.blog.channels.Sale: " in message
    assert said in message
    assert "The channel passes number, text, context, notification." in message


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda number: None,
        lambda text, *, number: None,
        lambda amount=1, *rest: None,
        lambda **everything: None,
        lambda context, notification, **everything: None,
    ],
)
def test_e005_a_listener_that_can(function: Any) -> None:
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))
    pgpubsub_sql.listener(channel)(function)
    assert found() == []


def vars_of(declaration: type) -> dict[str, Any]:
    return {"__annotations__": declaration.__annotations__, "text": ""}


def test_e005_rows_pass_old_and_new() -> None:
    channel = trigger_channel()
    pgpubsub_sql.post_insert_listener(channel)(lambda old, new, context, notification: None)
    assert found() == []
    pgpubsub_sql.post_insert_listener(channel)(lambda row: None)
    assert "The channel passes old, new, context, notification." in report("E005")


def test_e005_is_silent_where_the_fields_are_not_known() -> None:
    class Forgotten(pgpubsub_sql.Channel):
        number: int

    pgpubsub_sql.listener(Forgotten)(lambda number: None)
    assert "Forgotten" in report("E001")


def test_e005_looks_at_what_is_called() -> None:
    """P25: a coroutine and a function behind functools.wraps keep their parameters."""
    channel = dataclass(declare(pgpubsub_sql.Channel, "Sale", **vars_of(Fields)))

    async def handle(number: int, amount: int) -> None: ...

    pgpubsub_sql.listener(channel)(handle)
    assert "no field 'amount'" in report("E005")


# E006: one path, two functions.

TWICE = """
import pgpubsub_sql
@pgpubsub_sql.listener("shop.Sale")
def sold(): return 1
@pgpubsub_sql.listener("shop.Sale")
def {}(): return 2
"""
SALE = "import pgpubsub_sql\nclass Sale(pgpubsub_sql.Channel): pass\n"


def test_e006_two_functions_of_one_path(install_app: Callable[..., None]) -> None:  # noqa: F811
    """P25"""
    install_app("shop", channels=SALE, listeners=TWICE.format("sold"))
    message = report("E006")
    assert "Two different functions listen under the path shop.listeners.sold." in message
    assert "Rename one of them" in message


def test_e006_two_functions_of_two_paths(install_app: Callable[..., None]) -> None:  # noqa: F811
    install_app("shop", channels=SALE, listeners=TWICE.format("sold_too"))
    assert found() == []


# E007: row events of a channel without rows.


def test_e007_row_events_of_a_channel_without_rows() -> None:
    channel = declare(pgpubsub_sql.Channel, "Sale")
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    message = report("E007")
    assert "subscribes to row events of example.blog.channels.Sale, which has no rows" in message
    assert "TriggerChannel" in message


def test_e007_a_plain_listener_of_a_trigger_channel() -> None:
    """Its trigger may be SQL of the user's own, or installed for another listener."""
    pgpubsub_sql.listener(trigger_channel())(lambda new: None)
    assert found() == []


# E008: options of a trigger channel; which there are, tests/test_options.py tries.


def test_e008_an_option_that_does_not_fit() -> None:
    channel = trigger_channel(columns=("nmae",), watch=("age",), condition=Q(new__nome="x"))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    problems = found()
    assert [problem.id for problem in problems] == ["E008"] * 3
    first = problems[0].msg
    assert first.startswith("example.blog.channels.Watch: columns names 'nmae', but blog.Author")
    assert "Did you mean 'name'?" in first


def test_e008_options_that_fit() -> None:
    channel = trigger_channel(columns=("name",), watch="name", condition=Q(new__name="x"))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    assert found() == []


def test_e008_is_silent_without_a_model() -> None:
    channel = trigger_channel(model="app.Nothing", columns=("name",))
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    report("E003")


def test_e001_an_option_of_trigger_channels_that_is_annotated() -> None:
    @dataclass
    class Annotated(pgpubsub_sql.TriggerChannel):
        model = Author
        watch: tuple[str, ...] = ("name",)  # type: ignore[misc]

    assert "Annotated annotates its option 'watch', which makes it a field. Remove" in report(
        "E001"
    )


def test_e001_accept_raw_notify_is_no_boolean() -> None:
    declare(pgpubsub_sql.Channel, "Sale", accept_raw_notify="no")
    assert "has the accept_raw_notify 'no': set True or False." in report("E001")


def test_e008_ignorable_is_no_boolean() -> None:
    """F64."""
    channel = trigger_channel(ignorable=0)
    pgpubsub_sql.post_save_listener(channel)(lambda **fields: None)
    assert "ignorable is 0: give True or False." in report("E008")


# W004: misspelled options.


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
def test_w004_a_misspelled_option(name: str, value: object, meant: str) -> None:
    trigger_channel(**{name: value})
    message = report("W004")
    assert f"example.blog.channels.Watch sets {name!r}, which is not an option." in message
    assert f"Did you mean {meant!r}?" in message


def test_w004_attributes_of_ones_own() -> None:
    attributes = {"batch": 7, "durable": True, "_lock_notification": 1, "models": lambda: None}
    trigger_channel(lock_notifications=True, **attributes)
    fields = {"__annotations__": {"time_out": int}, "time_out": 3, "columns_": 1}
    dataclass(declare(pgpubsub_sql.Channel, "Sale", **fields))
    assert found() == []


# W002: migrations; W003: databases.


WATCH = """
import pgpubsub_sql
from django.contrib.auth.models import Group
class Watch(pgpubsub_sql.TriggerChannel):
    model = Group
@pgpubsub_sql.post_insert_listener(Watch)
def watch(new): pass
"""


def test_w002_an_app_without_migrations(install_app: Callable[..., None]) -> None:  # noqa: F811
    """P24: its trigger would never be taken away."""
    install_app("shop", channels=WATCH)
    message = report("W002")
    assert (
        "No migration installs the trigger of shop.channels.Watch: the app 'shop' has no" in message
    )
    assert "python manage.py makemigrations shop" in message


def test_w002_migrations_that_are_nowhere(
    install_app: Callable[..., None],  # noqa: F811
    settings: Any,
) -> None:
    install_app("shop", channels=WATCH)
    settings.MIGRATION_MODULES = {"shop": "nowhere.at.all"}
    assert "the app 'shop' has no migrations package" in report("W002")
    settings.MIGRATION_MODULES = {"shop": None}  # what people say who want none
    assert found() == []


def test_w002_a_directory_without_init(install_app: Callable[..., None], tmp_path: Path) -> None:  # noqa: F811
    """Django passes it over, too."""
    install_app("shop", channels=WATCH)
    (tmp_path / "shop" / "migrations").mkdir()
    assert "the app 'shop' has no migrations package" in report("W002")


def test_w002_a_channel_outside_of_every_app() -> None:
    channel = trigger_channel(__module__="config.channels")
    pgpubsub_sql.post_insert_listener(channel)(lambda new: None)
    message = report("W002")
    assert (
        "No migration installs the trigger of config.channels.Watch: its module belongs" in message
    )
    assert "INSTALLED_APPS" in message


def test_w002_an_app_with_migrations(install_app: Callable[..., None]) -> None:  # noqa: F811
    install_app("shop", channels=WATCH, migrations="")
    assert found() == []


# E101 and W101: settings.


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT", "False", "must be True or False, not 'False'"),
        ("PGPUBSUB_PASS_CONTEXT_TO_LISTENERS", None, "must be True or False, not None"),
        ("PGPUBSUB_LISTENER_FILTER", "no.where", "No module named 'no'"),
        ("PGPUBSUB_LISTENER_FILTER", f"{__name__}.django_checks", "not callable"),
    ],
)
def test_e101_a_setting_that_cannot_be_used(
    settings: Any, name: str, value: object, words: str
) -> None:
    setattr(settings, name, value)
    message = report("E101")
    assert name in message
    assert words in message


def test_e101_settings_that_can_be_used(settings: Any) -> None:
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = True
    settings.PGPUBSUB_PASS_CONTEXT_TO_LISTENERS = True
    settings.PGPUBSUB_LISTENER_FILTER = "tests.test_filters.OfTenantSeven"
    assert found() == []


def test_w101_a_context_that_outlasts_its_transaction(settings: Any) -> None:
    """P23"""
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False
    message = report("W101")
    assert "leaks into the next request" in message
    assert "Use notification_context()" in message


def test_w003_a_model_that_is_not_on_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    pgpubsub_sql.post_insert_listener(trigger_channel())(lambda new: None)
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(connection, "display_name", "SQLite")
    message = report("W003")
    assert "example.blog.channels.Watch is not installed: blog.Author is written to" in message
    assert "the database 'default', which is SQLite" in message
    assert "Route the model to PostgreSQL" in message


# Together.


def test_manage_py_check_runs_them_all(db: None) -> None:
    """Every command that needs the checks fails before the first message does."""
    pgpubsub_sql.listener("blog.Nothing")(lambda: None)
    with pytest.raises(SystemCheckError, match=r"\(pgpubsub_sql\.E004\)"):
        call_command("check")


# W203: what everybody can read.


class Account(models.Model):
    login = models.TextField()
    api_key = models.TextField()
    first = models.CharField(max_length=9)
    last = models.CharField(max_length=9)
    street = models.CharField(max_length=9)
    kind = models.CharField(max_length=1, choices={"a": "a"})

    class Meta:
        app_label = "blog"
        apps = Apps()


def exposed(**attributes: Any) -> str:
    channel = trigger_channel(**{"model": Account, **attributes})
    pgpubsub_sql.post_save_listener(channel)(lambda **fields: None)
    problems = exposure.check_exposure()
    assert all(problem.id == "pgpubsub_sql.W203" for problem in problems)
    return " ".join(f"{problem.msg} {problem.hint}" for problem in problems)


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        ({}, "the fields api_key, which look like secrets. "),
        ({"columns": ("first", "api_key")}, "the fields api_key, which look like secrets. "),
        ({"exclude": "api_key"}, None),
        ({"model": "auth.User"}, "the fields password, which look like secrets. "),
    ],
)
def test_w203_what_everybody_can_read(attributes: dict[str, Any], fields: str | None) -> None:
    """F65: any role that may connect can listen to an ephemeral channel."""
    said = exposed(**attributes)
    assert (fields or "") in said
    assert bool(said) == bool(fields)
    assert not fields or "example.blog.channels.Watch is ephemeral, so any role that can" in said


def test_w203_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """F65."""
    monkeypatch.setattr(exposure, "MANY_TEXTS", 4)
    assert "many text fields: login, first, last, street. Leave" in exposed(exclude="api_key")


@pytest.mark.parametrize(
    "attributes",
    [{"lock_notifications": True}, {"columns": ()}, {"columns": ("login", "first", "kind")}],
)
def test_w203_what_not_everybody_can_read(attributes: dict[str, Any]) -> None:
    """F65: durable, or little of it travels."""
    assert not exposed(**attributes)


@pytest.mark.parametrize("attributes", [{"columns": "no such"}, {"model": "no.Such"}, {"model": 1}])
def test_w203_leaves_other_problems_to_other_checks(attributes: dict[str, Any]) -> None:
    assert not exposed(**attributes)


def test_checks_are_registered_once() -> None:
    before = django_checks.registry.registry.get_checks()
    checks.register()
    assert len(django_checks.registry.registry.get_checks()) == len(before)
    assert checks.check_channels in before


@pytest.mark.parametrize(
    "identifier",
    [f"E00{n}" for n in range(1, 10)]
    + ["E010", "E101", "W002", "W003", "W004", "W101", "W203", "W204"],
)
def test_the_table_of_checks_is_complete(identifier: str) -> None:
    assert f"| {identifier} |" in (checks.__doc__ or "")
