"""Discovery of listeners, the decorators, and the registry."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pgpubsub_sql
from example.blog.channels import AuthorChannel
from pgpubsub_sql import channels, listeners
from pgpubsub_sql.channels import declared_channels, find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import Listener, field_names, registry
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
    assert one(users).timed_events == {"after_insert", "after_delete"}
    assert field_names(sale) == ["number", "at"]
    assert field_names(users) == ["old", "new"]


def test_importing_listeners_in_ready_registers_nothing_twice(
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


def test_listeners_follow_a_reloaded_channel(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """P25"""
    install_app("shop", channels=CHANNELS, listeners=LISTENERS)
    importlib.reload(sys.modules["shop.channels"])
    assert registry.channels() == declared_channels()
    assert one(declared_channels()[0]).path == "shop.listeners.sold"


def test_a_listener_that_a_reload_leaves_out_is_not_found(
    install_app: Callable[..., None],  # noqa: F811
    tmp_path: Path,
) -> None:
    install_app("shop", channels=CHANNELS, listeners=LISTENERS)
    sale, users = declared_channels()
    assert one(sale).path == "shop.listeners.sold"
    assert len(registry.listeners_of(users)) == 1
    (tmp_path / "shop" / "listeners.py").write_text("import pgpubsub_sql\n")
    importlib.reload(sys.modules["shop.listeners"])
    assert registry.listeners_of(sale) == registry.listeners_of(users) == []


def test_a_function_that_a_test_replaces_is_found(
    install_app: Callable[..., None],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_app("shop", channels=CHANNELS, listeners=LISTENERS)
    sale, _ = declared_channels()
    assert one(sale).target(number=1) is None
    monkeypatch.setattr("shop.listeners.sold", lambda number: "replaced")
    assert one(sale).target(number=1) == "replaced"


def test_a_listener_that_comes_later_is_found(channel: type[pgpubsub_sql.Channel]) -> None:
    assert registry.listeners_of(channel) == []

    @pgpubsub_sql.listener("tests.Sale")
    def sold(number: int) -> None: ...

    assert one(channel).function is sold
    assert registry.listeners_of(channel, "search") == []


@isolated
@pytest.mark.parametrize("is_named", [False, True])
def test_each_of_a_thousand_channels_is_looked_up_once(
    is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        dataclass(type(f"Many{number}", (pgpubsub_sql.Channel,), {"__module__": __name__}))
        for number in range(1000)
    ]
    names = {channel: channel.postgres_name() for channel in made}
    for channel, name in names.items():
        pgpubsub_sql.listener(name if is_named else channel)(lambda: None)
    steps = Counter[str]()
    for owner, name in ((Listener, "find_channel"), (channels, "app_label")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name), steps))
    for channel, name in names.items():
        assert find_channel(name) is channel
        assert len(registry.listeners_of(channel)) == 1
    assert steps == {"find_channel": 1000, "app_label": 1000}


def counted(function: Callable[..., Any], steps: Counter[str]) -> Callable[..., Any]:
    """Return *function*, whose calls add to *steps*."""

    def call(*args: Any) -> Any:
        steps[function.__name__] += 1
        return function(*args)

    return call


def test_two_functions_with_one_path_are_reported(install_app: Callable[..., None]) -> None:  # noqa: F811
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


def test_decorated_functions_with_one_path_are_reported(install_app: Callable[..., None]) -> None:  # noqa: F811
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
def test_a_string_may_name_a_channel_declared_later(name: str) -> None:
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
def test_each_decorator_registers_its_events(name: str, events: set[str], rows: Any) -> None:
    getattr(pgpubsub_sql, name)(rows)(lambda new: None)
    listener = one(rows)
    assert listener.timed_events == events
    assert listener.accepts(min(events))
    assert not listener.accepts("before_truncate")


def test_stacked_decorators_make_one_listener(rows: Any) -> None:
    """P4: of the peer's two decorators only the first installs a trigger."""

    @pgpubsub_sql.post_insert_listener(rows)
    @pgpubsub_sql.post_delete_listener(rows)
    def first(new: object) -> None: ...

    @pgpubsub_sql.post_update_listener(rows)
    def second(new: object) -> None: ...

    of_first, of_second = registry.listeners_of(rows)
    assert (of_first.function, of_second.function) == (first, second)
    assert of_first.timed_events == {"after_insert", "after_delete"}
    assert of_second.timed_events == {"after_update"}


def test_trigger_listener_defaults_to_insert_and_update(rows: Any) -> None:
    def events(**options: Any) -> set[str]:
        pgpubsub_sql.trigger_listener(rows, **options)(function := lambda: None)
        (found,) = [found for found in registry.listeners() if found.function is function]
        return set(found.timed_events)

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
def test_a_decorator_without_parentheses_raises() -> None:
    with pytest.raises(ChannelNotFound, match=r"forgetful.* is not a channel"):

        @pgpubsub_sql.listener
        def forgetful(number: int) -> None: ...


def test_the_registry_keeps_the_order_of_registration() -> None:
    """Listeners in order of registration, under annotations that are strings."""
    paths = [found.path for found in registry.listeners_of(AuthorChannel)]
    assert paths == ["example.blog.listeners.write_first_post"]
    assert listeners.registry is registry
