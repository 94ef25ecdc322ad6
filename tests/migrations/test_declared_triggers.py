"""Options of a trigger channel as fields of its specification, and options that do not fit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db.models import Model, Q
from django.test.utils import isolate_apps

import pgpubsub_sql
from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import OptionError
from pgpubsub_sql.migrations_ops.declared_triggers import (
    declared_triggers,
    option_problems,
    specify,
)
from pgpubsub_sql.models import LongPayload, Notification
from tests.conftest import ROOT
from tests.registries import blank  # noqa: F401 - a fixture
from tests.rows.models import Bar, Cube, Odd, Picture, Pizzeria, Plain, PlainProxy, Square, Visit

pytestmark = pytest.mark.usefixtures("blank")


def channel(model: Any, **attributes: Any) -> Any:
    """Declare a channel."""
    attributes = {"__module__": "tests.app.channels", "model": model, **attributes}
    return type("Watch", (pgpubsub_sql.TriggerChannel,), attributes)


def columns(model: Any, **attributes: Any) -> tuple[str, ...] | None:
    """Return the columns that travel."""
    declared = channel(model, **attributes)
    assert option_problems(declared) == []
    found: tuple[str, ...] | None = specify(declared).columns
    return found


@pytest.mark.parametrize("given", [("title", "body"), ["body", "title"], {"title", "body", "id"}])
def test_columns_are_specified_with_the_primary_key(given: Any) -> None:
    """P13: the primary key always travels; their order means nothing, so it is always the same."""
    assert columns(Plain, columns=given) == ("body", "id", "title")


def test_no_columns_option_specifies_all() -> None:
    """Those that the model does not know, too."""
    assert columns(Plain) is None


def test_empty_columns_specify_the_primary_key() -> None:
    assert columns(Plain, columns=()) == ("id",)


def test_one_column_may_be_a_string() -> None:
    """It is no sequence of letters."""
    assert columns(Plain, columns="title") == ("id", "title")


def test_exclude_specifies_the_other_columns() -> None:
    """P13: listed, so that what a later release adds does not travel unasked."""
    found = columns(Plain, exclude=("body", "token", "created", "day", "score", "price"))
    assert found == ("id", "published", "slug", "title", "views")


def test_a_proxy_has_the_columns_of_its_model() -> None:
    assert columns(PlainProxy, exclude=("body",)) == columns(Plain, exclude=("body",))


def test_db_column_names_are_specified() -> None:
    """What the database calls them counts, whatever the field is called."""
    assert columns(Odd, columns=("plain", "spaced")) == ("id", "renamed", "two words")


@pytest.mark.parametrize("name", ["place", "place_id"])
def test_a_foreign_key_may_be_named_with_or_without_id(name: str) -> None:
    """And a primary key of several columns."""
    assert columns(Visit, columns=(name, "guests")) == ("day", "guests", "place_id")
    assert columns(Visit, columns=("pk",)) == ("day", "place_id")


def test_links_to_parents_always_travel() -> None:
    """P22: the links to all parents travel, as the key of the child does."""
    assert columns(Pizzeria, columns=("oven",)) == ("oven", "restaurant_ptr_id")
    assert columns(Pizzeria, columns=("pk",)) == ("restaurant_ptr_id",)
    assert columns(Bar, columns=("closes",)) == ("closes", "licence_link_id", "place_link_id")
    assert columns(Bar, exclude=("closes",)) == ("licence_link_id", "place_link_id")


def test_dimensions_of_images_always_travel() -> None:
    """F17: what an image reads when its instance is made travels with it."""
    assert columns(Picture, columns=("image",)) == ("height", "id", "image", "width")
    assert columns(Picture, columns=("width",)) == ("id", "width")
    assert columns(Picture, exclude=("image",)) == ("height", "id", "width")
    assert columns(Picture, exclude=("image", "width")) == ("height", "id")


def test_virtual_columns_are_left_out() -> None:
    """A column that is computed when it is read is left out, as no trigger sees it."""
    assert columns(Square, columns=("area",)) == ("area", "id")
    assert columns(Square, exclude=("side",)) == ("area", "id")
    assert columns(Cube, exclude=("side",)) == ("id",)


def test_the_ordering_key_travels() -> None:
    """P16: in the order in which it is declared."""
    options = {"lock_notifications": True, "ordering_key": ("title", "day")}
    declared = channel(Plain, columns=("body",), **options)
    assert specify(declared).ordering_key == ("title", "day")
    assert specify(declared).columns == ("body", "day", "id", "title")
    declared = channel(Visit, lock_notifications=True, ordering_key="place")
    assert specify(declared).ordering_key == ("place_id",)


def test_watch_and_condition_are_specified() -> None:
    declared = channel(Plain, watch=["title", "body"], condition=Q(new__title="x"), level="row")
    trigger = specify(declared)
    assert trigger.watch == ("body", "title")
    assert trigger.condition == '("new"."title" = \'x\')'
    assert trigger.timezone == "UTC"
    assert trigger.level == "row"
    assert trigger.columns is None
    assert trigger.condition_columns == {"title"}


def test_every_option_is_inherited() -> None:
    class Base(pgpubsub_sql.TriggerChannel):
        model = Plain
        columns = ("title",)
        watch = ("title",)

    class Child(Base):
        watch = ("body",)

    assert specify(Child).columns == ("id", "title")
    assert specify(Child).watch == ("body",)


def test_a_channel_that_is_received_has_no_triggers() -> None:
    """Rows of this database's table would be taken for the other's."""
    for received_from in (None, "nats"):
        watch = channel(Plain, lock_notifications=True, received_from=received_from)
        watch.channel_name = f"from {received_from}"
        pgpubsub_sql.post_insert_listener(watch)(lambda: None)
    assert [name for _, name in declared_triggers()] == ["from None"]


def test_the_page_lists_every_option() -> None:
    """In the tables of docs/reference/channel-options.md, those of both kinds first."""
    page = (ROOT / "docs/reference/channel-options.md").read_text(encoding="utf-8")
    both, _, rest = page.partition("## Trigger channels")
    listed = [re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in (both, rest)]
    assert [sorted(options) for options in listed] == [
        sorted(base.__annotations__) for base in (BaseChannel, pgpubsub_sql.TriggerChannel)
    ]


with isolate_apps("tests.rows"):

    class StoredProxy(Notification):
        class Meta:
            app_label = "rows"
            proxy = True

    class Elsewhere(Model):
        class Meta:
            app_label = "rows"
            db_table = 'acme"."pgpubsub_sql_notification'
            managed = False


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a field there is not": (
        Plain, {"columns": ("titel",)},
        r"columns names 'titel', but rows.Plain has no such field. Did you mean 'title'\?",
    ),
    "none like it": (
        Plain, {"watch": ("colour",)}, r"watch names 'colour', but .* Its fields: id, title, slug,",
    ),
    "a field of another model": (
        Visit, {"watch": ("place__name",)}, "watch names 'place__name', but rows.Visit has no such",
    ),
    "what points here": (
        "rows.Place", {"columns": ("visit",)}, "'visit', which is not a column of rows.Place",
    ),
    "a field of the parent": (
        Pizzeria, {"columns": ("stars",)},
        "columns names 'stars', which is in the table of the parent model rows.Restaurant",
    ),
    "a key of the parent": (
        Bar, {"exclude": ("licence_id",)}, "exclude names 'licence_id', .* model rows.Licence",
    ),
    "the primary key": (
        Plain, {"exclude": ("id",)}, "exclude names the column 'id', but the primary key",
    ),
    "the ordering key": (
        Plain, {"exclude": ("day",), "ordering_key": "day", "lock_notifications": True},
        "exclude names the column 'day', .* ordering key always travel",
    ),
    "a dimension of an image that travels": (
        Picture, {"exclude": ("width",)}, "exclude names the column 'width', a dimension of an",
    ),
    "where messages are stored": (
        Notification, {}, "model is pgpubsub_sql.Notification, whose table is pgpubsub_sql's own",
    ),
    "where long ones are": (LongPayload, {}, "model is pgpubsub_sql.LongPayload, whose table"),
    "a proxy of it": (StoredProxy, {}, "model is pgpubsub_sql.Notification, whose table"),
    "the same in a schema": (Elsewhere, {}, "model is rows.Elsewhere, whose table"),
    "both": (
        Plain, {"exclude": ("day",), "columns": ("title",)}, "columns and exclude contradict",
    ),
    "what is computed when read": (
        Cube, {"watch": ("volume",)}, "watch names 'volume', which PostgreSQL computes when it is",
    ),
    "and is part of a condition": (
        Cube, {"condition": Q(new__volume=8)}, "condition cannot become SQL. .*volume is computed",
    ),
    "no string": (Plain, {"columns": (Plain.title,)}, "columns holds <django.*as strings"),
    "no names": (Plain, {"watch": 7}, "watch is 7: give a tuple of field names"),
    "no such level": (Plain, {"level": "table"}, "level is 'table': choose one of statement, row"),
    "a condition of nothing": (
        Plain, {"condition": Q(titel="x")}, "condition cannot become SQL. .*'titel'",
    ),
    "no condition": (Plain, {"condition": "title = 'x'"}, "is not a Q"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "attributes", "said"), WRONG.values(), ids=WRONG.keys())
def test_options_that_do_not_fit_name_channel_option_and_remedy(
    model: Any, attributes: dict[str, Any], said: str
) -> None:
    """T7, F17, F18: the check says it, with channel, option and remedy; nothing is specified."""
    declared = channel(model, **attributes)
    (problem,) = option_problems(declared)
    assert problem.startswith("tests.app.channels.Watch: ")
    with pytest.raises(OptionError, match=said) as raised:
        specify(declared)
    assert str(raised.value) == problem
