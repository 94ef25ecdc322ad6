"""Instances made without ``from_db()`` are those that it makes, and no model's code is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import models
from django.db.models.signals import post_init, pre_init
from django.test.utils import isolate_apps
from hypothesis import given
from hypothesis import strategies as st

from pgpubsub_sql.django_internals import build_as_usual, is_built_as_usual
from pgpubsub_sql.rows.instances import build
from tests.rows.models import Comparison, Everything, Picture, Plain, Remembering, Restaurant
from tests.rows.strategies import property_test

pytestmark = pytest.mark.django_db  # else a run of this file alone has no database to watch

USUAL = [model for model in apps.get_models() if is_built_as_usual(model)]


def everything(instance: models.Model) -> tuple[Any, ...]:
    """Return all that an instance is made of, in order."""
    attributes = dict(instance.__dict__)
    state = attributes.pop("_state")
    assert not state.fields_cache  # made when it is first asked for
    return type(instance), list(instance.__dict__), attributes, type(state), vars(state)


def test_most_models_are_built_as_usual() -> None:
    assert {Plain, Restaurant, Comparison} <= set(USUAL)
    assert not {Everything, Remembering, Picture} & set(USUAL)


@property_test
@given(data=st.data())
def test_an_instance_built_as_usual_is_what_from_db_makes(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(USUAL))
    attnames = [field.attname for field in model._meta.concrete_fields]
    present = data.draw(st.sets(st.sampled_from(attnames), min_size=1))
    names = [name for name in attnames if name in present]
    values = data.draw(st.lists(st.integers(), min_size=len(names), max_size=len(names)))
    built = build_as_usual(model, "default", names, values)
    expected = model.from_db("default", names, values)
    assert everything(built) == everything(expected)
    assert built.get_deferred_fields() == expected.get_deferred_fields() == set(attnames) - present
    assert (built._state.db, built._state.adding) == ("default", False)


def with_from_db() -> type[models.Model]:
    class Own(models.Model):
        @classmethod
        def from_db(cls, *args: Any, **kwargs: Any) -> Any:
            return super().from_db(*args, **kwargs)

    return Own


def with_init() -> type[models.Model]:
    class Own(models.Model):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)

    return Own


def with_new() -> type[models.Model]:
    class Own(models.Model):
        def __new__(cls, *args: Any) -> Any:
            return super().__new__(cls)

    return Own


def with_setattr() -> type[models.Model]:
    class Own(models.Model):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)

    return Own


def with_init_behind_models() -> type[models.Model]:
    class Counting:
        def __init__(self) -> None:
            self.count = 0

    class Own(models.Model, Counting):
        pass

    return Own


def with_metaclass() -> type[models.Model]:
    class Counting(type(models.Model)):  # type: ignore[misc]
        def __call__(cls, *args: Any) -> Any:
            return super().__call__(*args)

    class Own(models.Model, metaclass=Counting):
        pass

    return Own


def with_descriptor() -> type[models.Model]:
    class Upper(models.query_utils.DeferredAttribute):
        def __set__(self, instance: models.Model, value: str) -> None:
            instance.__dict__[self.field.attname] = value.upper()

    class Shouted(models.TextField):
        descriptor_class = Upper

    class Own(models.Model):
        name = Shouted()

    return Own


def with_property() -> type[models.Model]:
    class Own(models.Model):
        name = models.TextField()

    Own.name = property(lambda self: "a", lambda self, value: None)  # type: ignore[assignment]
    return Own


@isolate_apps("tests.rows")
@pytest.mark.parametrize(
    "declare",
    [
        with_from_db,
        with_init,
        with_new,
        with_setattr,
        with_init_behind_models,
        with_metaclass,
        with_descriptor,
        with_property,
    ],
)
def test_a_model_with_code_of_its_own_is_not(declare: Callable[[], type[models.Model]]) -> None:
    assert not is_built_as_usual(declare())


@pytest.mark.parametrize("signal", [pre_init, post_init])
def test_receivers_are_called_for_their_model(signal: Any) -> None:
    heard = []

    def receive(sender: type[models.Model], **kwargs: Any) -> None:
        heard.append(sender)

    signal.connect(receive, sender=Plain)
    try:
        build(Plain, "default", ["id"], [1])
        build(Everything, "default", ["id"], [1])
    finally:
        signal.disconnect(receive, sender=Plain)
    build(Plain, "default", ["id"], [1])
    assert heard == [Plain]


def test_from_db_is_not_called_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes most of the time of a typed message."""

    def refuse(self: models.Model, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("__init__() was called")

    build(Plain, "default", ["id"], [1])  # it learns what kind of model this is
    monkeypatch.setattr(models.Model, "__init__", refuse)
    assert build(Plain, "default", ["id"], [2]).pk == 2
