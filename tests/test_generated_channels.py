"""Channels and listeners made by functions and loops, and modules imported under two names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks

from pgpubsub_sql.channels import declared_channels, find_channel
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers
from tests.registries import blank, install_app  # noqa: F401 - fixtures

MADE = """
from dataclasses import dataclass
from django.contrib.auth.models import Group, User
import pgpubsub_sql
def make(watched, name):
    @dataclass
    class Audit(pgpubsub_sql.TriggerChannel):
        model = watched
        lock_notifications = True
        if name:
            channel_name = name
    return Audit
"""

BY_FUNCTION = """
One, Other = make(User, "one"), make(Group, "other")
"""

BY_SLOTS = """
def slotted(watched, name):
    @dataclass(slots=True)
    class Audit(pgpubsub_sql.TriggerChannel):
        model = watched
        channel_name = name
    return Audit
One, Other = slotted(User, "one"), slotted(Group, "other")
"""

BY_TYPE = """
One, Other = (
    dataclass(type("Audit", (pgpubsub_sql.TriggerChannel,), {"model": model, "channel_name": name}))
    for model, name in ((User, "one"), (Group, "other"))
)
"""

BY_STATEMENT = """
@dataclass
class Audit(pgpubsub_sql.TriggerChannel):
    model = User
    channel_name = "one"
One = Audit
@dataclass
class Audit(pgpubsub_sql.TriggerChannel):
    model = Group
    channel_name = "other"
Other = Audit
"""

BY_GENERIC = """
from typing import Generic, TypeVar
T = TypeVar("T")
class Of(pgpubsub_sql.TriggerChannel, Generic[T]):
    pass
def of(watched, name):
    @dataclass
    class Audit(Of[int]):
        model = watched
        channel_name = name
    return Audit
One, Other = of(User, "one"), of(Group, "other")
"""

LISTENERS = """
import pgpubsub_sql
from shop.channels import One, Other
for channel in (One, Other):
    @pgpubsub_sql.post_save_listener(channel)
    def handle(new, channel=channel): return channel
"""


def heard() -> dict[str, Any]:
    """Return what each channel's listeners return that are called with a row."""
    return {
        channel.postgres_name(): [
            found.callback(new=None).postgres_name() for found in registry.listeners_of(channel)
        ]
        for channel in registry.channels()
    }


def errors() -> list[str]:
    return [
        f"{found.id} {found}"
        for found in run_checks(tags=["pgpubsub_sql"], databases=[])
        if found.level >= 40
    ]


@pytest.mark.parametrize(
    "channels", [BY_FUNCTION, BY_SLOTS, BY_TYPE, BY_STATEMENT, BY_GENERIC], ids=lambda one: one[:20]
)
@pytest.mark.usefixtures("blank")
def test_channels_with_one_path_coexist(
    channels: str,
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """F14: what a function makes for two models, with names of their own, was one channel."""
    install_app("shop", channels=MADE + channels, listeners=LISTENERS)

    def as_declared() -> None:
        assert heard() == {"one": ["one"], "other": ["other"]}
        assert {key[1]: one.model for key, one in declared_triggers().items()} == {
            "one": "auth.user",
            "other": "auth.group",
        }
        assert errors() == []

    as_declared()
    module = sys.modules["shop.channels"]
    assert find_channel("one") is module.__dict__["One"]
    importlib.reload(sys.modules["shop.listeners"])
    as_declared()
    importlib.reload(module)
    as_declared()
    assert find_channel("one") is module.__dict__["One"]


def test_a_path_of_several_channels_is_refused(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """F14"""
    install_app("shop", channels=MADE + BY_FUNCTION)
    with pytest.raises(ChannelNotFound, match=r"several channels: .* names, 'one', 'other'"):
        find_channel("shop.channels.make.<locals>.Audit")


def test_channels_with_one_path_and_name_are_an_error(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """F14: the first of them vanished, and nobody said so."""
    made = 'One, Other = make(User, ""), make(Group, "")\n'
    install_app("shop", channels=MADE + made, listeners=LISTENERS)
    assert len(declared_channels()) == 2
    (error,) = errors()
    assert "pgpubsub_sql.E002" in error
    assert "all called 'shop.Audit'" in error


def test_reloading_replaces_channels_made_by_another_module(
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """F14: what counts is the module that is loaded again, not the one of the class."""
    channels = "from shop.making import Group, User, make\n" + BY_FUNCTION
    install_app("shop", making=MADE, channels=channels, listeners=LISTENERS)
    before = declared_channels()
    importlib.reload(sys.modules["shop.channels"])
    assert len(declared_channels()) == 2
    assert not {*before} & {*declared_channels()}
    assert heard() == {"one": ["one"], "other": ["other"]}
    assert errors() == []


def test_channels_not_declared_any_more_are_gone(install_app: Callable[..., None]) -> None:  # noqa: F811
    """F14: a module that is loaded again declares less, or by other names."""
    install_app("shop", channels=MADE + BY_FUNCTION)
    module = sys.modules["shop.channels"]
    assert module.__file__ is not None
    with open(module.__file__, "w") as file:
        file.write(MADE + 'One = make(User, "renamed")\n')
    importlib.reload(module)
    assert [channel.postgres_name() for channel in declared_channels()] == ["renamed"]


LOOPS = {
    "a loop": """
for number in (1, 2):
    @pgpubsub_sql.listener("shop.Sale")
    def handle(number=number): return number
""",
    "wrapped in a loop": """
import functools
def deco(function):
    @functools.wraps(function)
    def call(**arguments): return function()
    return call
for number in (1, 2):
    @pgpubsub_sql.listener("shop.Sale")
    @deco
    def handle(number=number): return number
""",
    "a function": """
def make(number):
    @pgpubsub_sql.listener("shop.Sale")
    def handle(): return number
make(1), make(2)
""",
    "a lambda": """
for number in (1, 2):
    pgpubsub_sql.listener("shop.Sale")(lambda number=number: number)
""",
    "a partial": """
import functools
def handle(one): return one
for number in (1, 2):
    pgpubsub_sql.listener("shop.Sale")(functools.partial(handle, number))
""",
}


@pytest.mark.parametrize("listeners", LOOPS.values(), ids=LOOPS)
@pytest.mark.usefixtures("blank")
def test_generated_listeners_are_all_registered(
    listeners: str,
    install_app: Callable[..., None],  # noqa: F811
) -> None:
    """F14's sibling: of those made in a loop one listened, and it was the last that was called."""
    sale = "import pgpubsub_sql\nclass Sale(pgpubsub_sql.Channel): pass\n"
    install_app("shop", channels=sale, listeners="import pgpubsub_sql\n" + listeners)

    def as_declared() -> None:
        found = registry.listeners_of(find_channel("shop.Sale"))
        assert [listener.callback() for listener in found] == [1, 2]
        assert registry.conflicts == set()

    as_declared()
    importlib.reload(sys.modules["shop.listeners"])
    as_declared()


def test_a_module_imported_under_two_names_is_an_error(install_app: Callable[..., None]) -> None:  # noqa: F811
    """F14's sibling: each message would be handled twice."""
    sale = "import pgpubsub_sql\nclass Sale(pgpubsub_sql.Channel): pass\n"
    listens = "import pgpubsub_sql\n@pgpubsub_sql.listener('shop.Sale')\ndef sold(): pass\n"
    install_app("shop", channels=sale, listeners=listens)
    module = sys.modules["shop.listeners"]
    assert errors() == []
    assert module.__file__ is not None
    spec = importlib.util.spec_from_file_location("listeners_again", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["listeners_again"] = again = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(again)
        (error,) = errors()
    finally:
        del sys.modules["listeners_again"]
    assert "pgpubsub_sql.E006" in error
    assert (
        "shop.listeners.sold and listeners_again.sold are the same function, imported under"
        in error
    )
