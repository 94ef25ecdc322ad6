"""What people import of the test kit."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from pgpubsub_sql import testing

PUBLIC = [
    "Call",
    "Capture",
    "Handled",
    "HandledMessage",
    "LiveWorker",
    "Message",
    "PubSub",
    "PubSubTestMixin",
    "Sent",
    "assert_triggers_installed",
]


def test_the_public_names() -> None:
    assert testing.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_says_what_it_is_for(name: str) -> None:
    public = getattr(testing, name)
    assert public.__doc__
    members = {
        name: member
        for name, member in getattr(public, "__dict__", {}).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    }
    assert [name for name, member in members.items() if not inspect.getdoc(member)] == []


def test_the_mixin_asserts_what_the_kit_asserts() -> None:
    """Each in its own spelling, with equal parameters."""
    names = [name for name in dir(testing.PubSub) if name.startswith("assert_")]
    assert len(names) == 5
    for name in names:
        head, *rest = name.split("_")
        twin = getattr(testing.PubSubTestMixin, head + "".join(map(str.title, rest)))
        assert inspect.signature(twin) == inspect.signature(getattr(testing.PubSub, name))


def test_the_plugin_imports_neither_django_nor_the_package() -> None:
    """pytest imports it in every project that has the package installed."""
    program = "import pytest_pgpubsub_sql, sys; print({'django', 'pgpubsub_sql'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
