"""Which object of a listener is called, and with which arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import call_command

import pgpubsub_sql
from pgpubsub_sql.listeners import Listener, registry
from tests.app.models import Entry
from tests.registries import blank, install_app, undone  # noqa: F401 - fixtures

isolated = pytest.mark.usefixtures("blank")


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


def test_functions_without_a_path_are_registered_as_objects(channel: Any) -> None:
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


def test_outer_decorators_and_classes_are_called() -> None:
    """P25: the peer calls the bare function."""
    assert {f.path.rpartition("listener_calls.")[2]: f.callback(number=1) for f in _FOUND} == {
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
def test_a_listener_gets_the_arguments_that_it_names(
    function: Any, passed: set[str], channel: Any
) -> None:
    pgpubsub_sql.listener(channel)(function)
    fields, extras = {"number": 1, "text": "x"}, {"context": {}, "notification": None}
    arguments = one(channel).selector(fields)(fields, extras)
    assert set(arguments) == passed
    function(**arguments)


@pytest.mark.django_db  # Django 6.1 asks the database for what it supports
@isolated
def test_a_field_called_context_wins() -> None:
    """So a channel of the predecessor's users that has such a field keeps its meaning."""

    @dataclass
    class Story(pgpubsub_sql.Channel):
        context: str
        notification: int

    @pgpubsub_sql.listener(Story)
    def read(context: str, notification: int) -> None: ...

    fields, extras = {"context": "1814", "notification": 1}, {"context": {}, "notification": None}
    assert one(Story).selector(fields)(fields, extras) == fields
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
        assert listener.callback(**listener.selector(["number"])({"number": 7}, {})) == 1
    assert not Entry.objects.exists()
