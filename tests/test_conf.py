"""Settings: their defaults, their types, and the page that documents them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgpubsub_sql import conf
from tests.conftest import ROOT

PAGE = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
DOCUMENTED = dict(re.findall(r"^## (\w+)\n\nDefault: (.*)\.$", PAGE, re.MULTILINE))


def readers() -> dict[str, Callable[[], Any]]:
    """Return the functions of conf.py by the setting that each reads."""
    functions = inspect.getmembers(conf, inspect.isfunction)
    ours = [function for name, function in functions if not name.startswith("_")]
    return {re.match(r"``(\w+)``: ", function.__doc__)[1]: function for function in ours}


READERS = readers()


def plain(default: str) -> str:
    """Return what a page or a docstring says of a default, without the marks of either."""
    return default.replace("`", "")


def test_the_page_has_every_setting_and_no_other() -> None:
    assert list(DOCUMENTED) == sorted(READERS)
    assert re.findall(r"^## (\w+)", PAGE, re.MULTILINE) == list(DOCUMENTED)


@pytest.mark.parametrize("name", READERS)
def test_defaults_agree_in_page_and_code(settings: Any, name: str) -> None:
    if hasattr(settings, name):
        delattr(settings, name)
    settings.ROOT_URLCONF = "ROOT_URLCONF.urls"
    docstring = " ".join((READERS[name].__doc__ or "").split())
    (default,) = re.findall(r"Default: (.*?)[.,]", docstring)
    assert plain(DOCUMENTED[name]) == plain(default)
    value = str(READERS[name]())
    assert plain(default) in (value, f"the package that holds {value}")


@pytest.mark.parametrize("name", READERS)
def test_settings_are_read_live(settings: Any, name: str) -> None:
    read = READERS[name]
    values: tuple[Any, ...] = ("one", "two", "one")
    if isinstance(read(), bool):
        values = (True, False, True)
    elif name == "PGPUBSUB_RELAY":
        values = ({"servers": ["nats://one"]}, None, {})
    for value in values:
        setattr(settings, name, value)
        assert read() == value


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("value", [1, ["a"], object, b"a"])
def test_a_value_of_the_wrong_type_is_refused(settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)
    with pytest.raises(
        ImproperlyConfigured, match=f"{name} must be .*, not {re.escape(repr(value))}"
    ):
        READERS[name]()


def test_text_is_not_a_boolean(settings: Any) -> None:
    """That of "False", as it comes out of an environment variable, would count as true."""
    settings.PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = "False"
    with pytest.raises(ImproperlyConfigured, match="must be True or False, not 'False'"):
        conf.is_context_bound_to_transaction()


def test_settings_are_read_nowhere_else() -> None:
    for file in (ROOT / "pgpubsub_sql").rglob("*.py"):
        reads = re.findall(r"settings(?:\.|, \")PGPUBSUB_\w+", file.read_text(encoding="utf-8"))
        assert not reads or file.name == "conf.py", file
