"""Declaration of channels, their names, and how they are found."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from example.blog.channels import AuthorChannel, PostReads
from example.blog.models import Author
from pgpubsub_sql import Channel, TriggerChannel
from pgpubsub_sql.channels import (
    app_label,
    codec,
    declared_channels,
    find_channel,
    model_of,
    select_channels,
)
from pgpubsub_sql.errors import ChannelNotFound, PubSubError
from pgpubsub_sql.sql import MAX_NAME_BYTES, shorten
from tests.app.channels import ItemChannel, ItemNews
from tests.registries import blank, install_app  # noqa: F401 - fixtures

isolated = pytest.mark.usefixtures("blank")


def declare(name: str, module: str = "example.blog.channels", **attributes: Any) -> type[Channel]:
    return type(name, (Channel,), {"__module__": module, **attributes})


# Names.


def test_a_channel_is_named_after_its_app_and_class() -> None:
    assert PostReads.postgres_name() == "blog.PostReads"
    assert AuthorChannel.postgres_name() == "blog.AuthorChannel"
    assert app_label(AuthorChannel) == "blog"


def test_a_channel_may_have_any_name() -> None:
    assert ItemNews.postgres_name() == 'item "news" äöü'


@isolated
def test_moving_a_module_within_an_app_keeps_the_name() -> None:
    """P5: the peer's name is a hash of the module path, so that moving orphans stored rows."""
    before = declare("Moved", "example.blog.channels")
    after = declare("Moved", "example.blog.messaging.about_posts")
    assert before.postgres_name() == after.postgres_name() == "blog.Moved"


@isolated
def test_a_channel_outside_every_app_is_named_after_its_package() -> None:
    assert declare("Stray", "somewhere.deep.inside").postgres_name() == "somewhere.Stray"


@isolated
def test_no_two_channels_share_a_name() -> None:
    """P5: the peer's names have five hex digits; Channel129 and Channel1148 share theirs."""
    names = {declare(f"Channel{number}").postgres_name() for number in range(2000)}
    assert {"blog.Channel129", "blog.Channel1148"} <= names
    assert len(names) == 2000


@isolated
def test_a_name_given_to_a_base_class_is_not_inherited() -> None:
    base = declare("Base", channel_name="base")
    child = type("Child", (base,), {"__module__": "example.blog.channels"})
    assert base.postgres_name() == "base"
    assert child.postgres_name() == "blog.Child"


@isolated
def test_long_names_keep_their_start_and_differ() -> None:
    """P5: stable and readable, and as long as PostgreSQL allows."""
    one, other = (declare("Long" * 20 + end).postgres_name() for end in "AB")
    assert one == "blog.LongLongLongLongLongLongLongLongLongLongLongLon_9b84572cc3"
    assert other.startswith(one[:-10])
    assert one != other
    assert len(one) == MAX_NAME_BYTES


def test_a_name_of_63_bytes_is_kept_and_can_be_listened_to(db: None) -> None:
    name = "ä" * 31 + "x"
    assert shorten(name) == name
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [shorten(name)])
        cursor.execute("SELECT pg_notify(%s, '')", [shorten(name + "x")])


@given(st.text(), st.text())
def test_shortened_names_fit_and_are_distinct(one: str, other: str) -> None:
    long_one, long_other = "n" * 60 + one, "n" * 60 + other
    assert len(shorten(long_one).encode()) <= MAX_NAME_BYTES
    assert (shorten(long_one) == shorten(long_other)) is (one == other)
    assert shorten(shorten(long_one)) == shorten(long_one)


# Finding.


@pytest.mark.parametrize(
    "reference", [PostReads, "example.blog.channels.PostReads", "blog.PostReads"]
)
def test_a_channel_is_found_by_class_path_and_name(reference: Any) -> None:
    assert find_channel(reference) is PostReads


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("pgpubsub_sql.Channel", Channel),
        ("pgpubsub_sql.TriggerChannel", TriggerChannel),
        (f"{__name__}.AuthorChannel", AuthorChannel),
    ],
)
def test_a_channel_is_found_by_a_path_that_imports_it(reference: str, found: type) -> None:
    assert find_channel(reference) is found


@pytest.mark.parametrize(
    "reference",
    ["pgpubsub_sql.notify", "pgpubsub_sql.channels.BaseChannel", "pgpubsub_sql", "", ".Channel"],
)
def test_an_imported_object_that_is_no_channel_is_not_found(reference: str) -> None:
    with pytest.raises(ChannelNotFound, match="No channel is called"):
        find_channel(reference)


@isolated
def test_a_long_name_is_found_whole_and_shortened() -> None:
    name = "a name, " * 20
    channel = declare("Long", channel_name=name)
    assert find_channel(name) is find_channel(shorten(name)) is channel


def test_a_misspelled_reference_gets_a_suggestion() -> None:
    with pytest.raises(ChannelNotFound, match=r"'blog\.PostRead'.*mean 'blog\.PostReads'\?"):
        find_channel("blog.PostRead")
    with pytest.raises(PubSubError, match=r"put it into the channels\.py") as caught:
        find_channel("something else entirely")
    assert "Did you mean" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("reference", [None, 1, int, Author, print])
def test_a_reference_that_is_no_channel_is_refused(reference: Any) -> None:
    with pytest.raises(ChannelNotFound, match="is not a channel: name a subclass"):
        find_channel(reference)


@isolated
def test_a_base_class_selects_its_subclasses() -> None:
    @dataclass
    class Base(Channel):
        number: int

    @dataclass
    class One(Base):
        text: str

    @dataclass
    class Two(Base):
        pass

    other = declare("Other")
    everything = declared_channels()
    assert everything == [Base, One, Two, other]
    assert select_channels([Base], everything) == [Base, One, Two]
    assert select_channels(["tests.Two", "blog.Other"], everything) == [Two, other]
    assert select_channels(["pgpubsub_sql.Channel"], everything) == everything
    assert select_channels([], everything) == []
    with pytest.raises(ChannelNotFound, match=r"tests\.Three"):
        select_channels(["tests.Three"], everything)
    assert list(codec(One).fields) == ["number", "text"]


@isolated
def test_a_dataclass_with_slots_is_declared_once() -> None:
    """dataclass(slots=True) makes a second class of the same name."""

    @dataclass(slots=True)
    class Slotted(Channel):
        number: int

        @dataclass(slots=True)
        class Nested(Channel):
            number: int

    assert set(declared_channels()) == {Slotted, Slotted.Nested}


def test_a_reloaded_module_declares_nothing_twice(install_app: Callable[..., None]) -> None:  # noqa: F811
    """P25"""
    install_app("shop", channels="import pgpubsub_sql\nclass Sale(pgpubsub_sql.Channel): pass\n")
    (first,) = declared_channels()
    importlib.reload(sys.modules["shop.channels"])
    (second,) = declared_channels()
    assert first is not second
    assert find_channel("shop.Sale") is second


# Models.


def test_a_model_is_named_by_class_or_label() -> None:
    assert model_of(AuthorChannel) is Author
    assert model_of(ItemChannel)._meta.label == "app.Item"


@isolated
@pytest.mark.parametrize(
    ("attributes", "error"),
    [({}, AttributeError), ({"model": "app.Nothing"}, LookupError), ({"model": "x"}, ValueError)],
)
def test_a_missing_model_raises(attributes: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        model_of(type("Nowhere", (TriggerChannel,), attributes))
