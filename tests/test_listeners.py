"""The decorators, and the registry behind them."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import call_command

import pgpubsub_sql
from example.blog.channels import AuthorChannel
from pgpubsub_sql import listeners
from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import Listener, field_names, registry
from tests.app.models import Entry
from tests.registries import blank, install_app, undone  # noqa: F401 - fixtures

isolated = pytest.mark.usefixtures("blank")

NAMED = {
    "post_insert_listener": {"after_insert"},
    "post_update_listener": {"after_update"},
    "post_delete_listener": {"after_delete"},
    "post_save_listener": {"after_insert", "after_update"},
    "post_truncate_listener": {"after_truncate"},
    "pre_insert_listener": {"before_insert"},
    "pre_update_listener": {"before_update"},
    "pre_delete_listener": {"before_delete"},
    "pre_save_listener": {"before_insert", "before_update"},
}

CHANNELS = """
from __future__ import annotations
import datetime
from dataclasses import dataclass
import pgpubsub_sql

@dataclass
class Sale(pgpubsub_sql.Channel):
    number: int
    at: datetime.datetime | None = None

@dataclass
class Users(pgpubsub_sql.TriggerChannel):
    model = "contenttypes.ContentType"
"""
LISTENERS = """
import pgpubsub_sql
from shop.channels import Sale, Users

@pgpubsub_sql.listener(Sale)
def sold(number): pass

@pgpubsub_sql.post_insert_listener(Users)
@pgpubsub_sql.post_delete_listener("shop.Users")
def user(old, new): pass
"""


def one(channel: type[pgpubsub_sql.Channel | pgpubsub_sql.TriggerChannel]) -> Listener:
    (listener,) = registry.listeners_of(channel)
    return listener


@pytest.fixture
def channel(blank: None) -> type[pgpubsub_sql.Channel]:  # noqa: F811
    @dataclass
    class Sale(pgpubsub_sql.Channel):
        number: int
        text: str = ""

    return Sale


@pytest.fixture
def rows(blank: None) -> type[pgpubsub_sql.TriggerChannel]:  # noqa: F811
    class Items(pgpubsub_sql.TriggerChannel):
        model = "app.Item"

    return Items


# Discovery.


def test_channels_and_listeners_of_installed_apps_are_found(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    install_app("shop", channels=CHANNELS, listeners=LISTENERS)
    sale, users = declared_channels()
    assert registry.channels() == [sale, users]
    assert one(sale).path == "shop.listeners.sold"
    assert one(users).events == {"after_insert", "after_delete"}
    assert field_names(sale) == ["number", "at"]
    assert field_names(users) == ["old", "new"]


def test_importing_in_ready_as_the_predecessor_wants_registers_nothing_twice(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """P25: there, importing twice runs every listener twice."""
    config = "from django.apps import AppConfig\nclass Shop(AppConfig):\n    name = 'shop'\n"
    config += "    def ready(self):\n        import shop.listeners\n"
    install_app("shop", apps=config, channels=CHANNELS, listeners=LISTENERS)
    assert len(registry.listeners()) == 3
    importlib.reload(sys.modules["shop.listeners"])
    assert len(registry.listeners()) == 3
    importlib.reload(sys.modules["shop.channels"])
    importlib.reload(sys.modules["shop.listeners"])
    assert len(registry.listeners()) == 3
    assert not registry.conflicts


def test_listeners_follow_their_channel_when_it_alone_is_loaded_again(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """P25"""
    install_app("shop", channels=CHANNELS, listeners=LISTENERS)
    importlib.reload(sys.modules["shop.channels"])
    assert registry.channels() == declared_channels()
    assert one(declared_channels()[0]).path == "shop.listeners.sold"


def test_two_functions_of_one_path_are_reported(install_app: Callable[..., None]) -> None:  # noqa: F811
    """P25: by its path only one of them could be called."""
    underscores = """
import pgpubsub_sql
@pgpubsub_sql.listener("shop.Sale")
def _(number): pass
@pgpubsub_sql.post_save_listener("shop.Users")
def _(new): pass
"""
    install_app("shop", channels=CHANNELS, listeners=underscores)
    importlib.reload(sys.modules["shop.listeners"])
    assert registry.conflicts == {"shop.listeners._"}


def test_functions_under_one_decorator_are_told_apart(install_app: Callable[..., None]) -> None:  # noqa: F811
    """The code of a wrapper is that of every wrapper."""
    wrapped = """
import functools
import pgpubsub_sql
def deco(function):
    @functools.wraps(function)
    def call(**kwargs): return function(**kwargs)
    return call
@pgpubsub_sql.listener("shop.Sale")
@deco
def sold(number): return 1
@pgpubsub_sql.listener("shop.Sale")
@deco
def sold(number): return 2
"""
    install_app("shop", channels=CHANNELS, listeners=wrapped)
    assert registry.conflicts == {"shop.listeners.sold"}


# What is registered.


@isolated
@pytest.mark.parametrize("name", [*NAMED, "listener", "trigger_listener"])
def test_a_channel_may_be_a_string_naming_what_is_declared_later(name: str) -> None:
    """P25: in the peer a channel given as a string crashes post_*."""
    decorator = getattr(pgpubsub_sql, name)

    @decorator("tests.Later")
    @decorator(f"{__name__}.Later")
    def handle(old: object, new: object) -> None: ...

    with pytest.raises(ChannelNotFound, match="Later"):
        registry.channels()
    attributes = {"__module__": __name__, "__qualname__": "Later"}
    later = type("Later", (pgpubsub_sql.TriggerChannel,), attributes)
    assert registry.channels() == [later]
    assert one(later).function is handle


@pytest.mark.parametrize(("name", "events"), NAMED.items())
def test_a_named_decorator_asks_for_its_events(name: str, events: set[str], rows: Any) -> None:
    getattr(pgpubsub_sql, name)(rows)(lambda new: None)
    listener = one(rows)
    assert listener.events == events
    assert listener.accepts(min(events))
    assert not listener.accepts("before_truncate")


def test_decorators_stacked_on_one_function_are_one_listener(rows: Any) -> None:
    """P4: of the peer's two decorators only the first installs a trigger."""

    @pgpubsub_sql.post_insert_listener(rows)
    @pgpubsub_sql.post_delete_listener(rows)
    def first(new: object) -> None: ...

    @pgpubsub_sql.post_update_listener(rows)
    def second(new: object) -> None: ...

    of_first, of_second = registry.listeners_of(rows)
    assert (of_first.function, of_second.function) == (first, second)
    assert of_first.events == {"after_insert", "after_delete"}
    assert of_second.events == {"after_update"}


def test_trigger_listener_asks_for_insert_and_update_unless_told(rows: Any) -> None:
    def events(**options: Any) -> set[str]:
        pgpubsub_sql.trigger_listener(rows, **options)(function := lambda: None)
        (found,) = [found for found in registry.listeners() if found.function is function]
        return set(found.events)

    assert events() == {"after_insert", "after_update"}
    assert events(events=["delete"], when="before") == {"before_delete"}
    assert events(events="delete") == {"after_delete"}
    assert events(events=()) == set()
    assert all(listener.accepts("after_delete") for listener in registry.listeners()[-1:])
    with pytest.raises(ValueError, match=r"no event 'upsert': choose from .*'truncate'"):
        pgpubsub_sql.trigger_listener(rows, events=("insert", "upsert"))
    with pytest.raises(ValueError, match="'after' or 'before', not 'during'"):
        pgpubsub_sql.trigger_listener(rows, when="during")  # type: ignore[arg-type]


@isolated
def test_forgotten_parentheses_are_noticed_at_once() -> None:
    with pytest.raises(ChannelNotFound, match=r"forgetful.* is not a channel"):

        @pgpubsub_sql.listener
        def forgetful(number: int) -> None: ...


def test_functions_without_a_path_are_registered_as_the_objects_they_are(channel: Any) -> None:
    """P25: each once, though they share what would be their path."""

    class Handler:
        def __init__(self, name: str) -> None:
            self.name = name

        def handle(self, number: int) -> str:
            return f"{self.name} {number}"

        def __call__(self, number: int) -> str:
            return f"calling {self.handle(number)}"

    def local(word: str) -> Callable[..., str]:
        def handle(number: int) -> str:
            return f"{word} {number}"

        return handle

    methods = Handler("one"), Handler("two")
    decorate = pgpubsub_sql.listener(channel)
    functions = [
        local("local"),
        local("second"),
        lambda number: f"lambda {number}",
        functools.partial(lambda prefix, number: f"{prefix} {number}", "partial"),
        methods[0].handle,
        methods[1].handle,
        methods[0],
    ]
    for function in [*functions, *functions, methods[0].handle]:
        assert decorate(function) is function
    found = registry.listeners_of(channel)
    assert [listener.function for listener in found] == functions
    assert [listener.callback(number=1) for listener in found] == [
        *("local 1", "second 1", "lambda 1", "partial 1", "one 1", "two 1", "calling one 1")
    ]
    assert all(listener.is_local for listener in found)


class Methods:
    """Listeners of a class, found by their path."""

    def __init__(self, channel: Any) -> None:
        pgpubsub_sql.listener(channel)(self.bound)

    @staticmethod
    @pgpubsub_sql.listener("tests.elsewhere")
    def static(number: int) -> str:
        return f"static {number}"

    @pgpubsub_sql.listener("tests.elsewhere")
    @staticmethod
    def static_below(number: int) -> str:
        return f"static below {number}"

    @classmethod
    @pgpubsub_sql.listener("tests.elsewhere")
    def of_class(cls, number: int) -> str:
        return f"{cls.__name__} {number}"

    class Nested:
        @staticmethod
        @pgpubsub_sql.listener("tests.elsewhere")
        def static(number: int) -> str:
            return f"nested {number}"

    def bound(self, number: int) -> str:
        return f"bound {number}"


def shout(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> str:
        return function(*args, **kwargs).upper()

    return call


@shout
@pgpubsub_sql.listener("tests.elsewhere")
def decorated_above(number: int) -> str:
    return f"decorated {number}"


class Task:
    """What a decorator may make of a function, as Celery's does."""

    def __init__(self, function: Callable[..., str]) -> None:
        self.function = function

    def __call__(self, **kwargs: Any) -> str:
        return f"a task, {self.function(**kwargs)}"


@Task
@pgpubsub_sql.listener("tests.elsewhere")
def task(number: int) -> str:
    return f"task {number}"


@pgpubsub_sql.listener("tests.elsewhere")
def gone(number: int) -> str:
    return f"gone {number}"


_FOUND = [found for found in registry.listeners() if found.channel == "tests.elsewhere"]
# The listeners above are the registry's no longer: no other test should meet them.
for _key in [key for key, found in registry._listeners.items() if found in _FOUND]:
    del registry._listeners[_key]
del gone


def test_decorators_above_and_classes_around_are_not_bypassed() -> None:
    """P25: the peer calls the bare function."""
    assert {f.path.rpartition("listeners.")[2]: f.callback(number=1) for f in _FOUND} == {
        "Methods.static": "static 1",
        "Methods.static_below": "static below 1",
        "Methods.of_class": "Methods 1",
        "Methods.Nested.static": "nested 1",
        "decorated_above": "DECORATED 1",
        "task": "a task, task 1",
        "gone": "gone 1",
    }
    assert not any(found.is_local for found in _FOUND)


def test_a_bound_method_keeps_its_object(channel: Any) -> None:
    Methods(channel)
    assert one(channel).callback(number=1) == "bound 1"
    assert list(one(channel).parameters) == ["number"]


# Calling.


@pytest.mark.parametrize(
    ("function", "passed"),
    [
        (lambda: None, set()),
        (lambda text: None, {"text"}),
        (lambda *, number, other=1: None, {"number"}),
        (lambda *number: None, set()),
        (lambda **everything: None, {"number", "text"}),
        (lambda context, **rest: None, {"number", "text", "context"}),
        (lambda notification, number: None, {"number", "notification"}),
    ],
)
def test_a_listener_gets_what_it_names(function: Any, passed: set[str], channel: Any) -> None:
    pgpubsub_sql.listener(channel)(function)
    fields, extras = {"number": 1, "text": "x"}, {"context": {}, "notification": None}
    arguments = one(channel).arguments(fields, extras)
    assert set(arguments) == passed
    function(**arguments)


@isolated
def test_a_field_called_context_comes_before_ours() -> None:
    """So a channel of the predecessor's users that has such a field keeps its meaning."""

    @dataclass
    class Story(pgpubsub_sql.Channel):
        context: str
        notification: int

    @pgpubsub_sql.listener(Story)
    def read(context: str, notification: int) -> None: ...

    fields, extras = {"context": "1814", "notification": 1}, {"context": {}, "notification": None}
    assert one(Story).arguments(fields, extras) == fields
    call_command("check")


@pytest.mark.django_db
def test_a_coroutine_runs_to_its_end_in_the_same_transaction(channel: Any) -> None:
    @pgpubsub_sql.listener(channel)
    async def handle(number: int) -> int:
        await Entry.objects.acreate(listener="async", data=number)
        return await Entry.objects.acount()

    listener = one(channel)
    assert list(listener.parameters) == ["number"]
    with undone():
        assert listener.callback(**listener.arguments({"number": 7}, {})) == 1
    assert not Entry.objects.exists()


def test_the_registry_of_this_project() -> None:
    """Listeners in order of registration, under annotations that are strings."""
    paths = [found.path for found in registry.listeners_of(AuthorChannel)]
    assert paths == ["example.blog.listeners.write_first_post"]
    assert listeners.registry is registry
