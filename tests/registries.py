"""Registries of one test's own, an ear for what is sent, and what exceptions undo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

from pgpubsub_sql import Channel, TriggerChannel, channels
from pgpubsub_sql.listeners import Registry, registry
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.doorbell import Doorbell, Notify
from pgpubsub_sql.worker.sleeping import Execute
from tests.conftest import eventually

SENTINEL = "tests.nothing more comes"


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is declared and nobody listens; what the test declares is forgotten after it."""
    monkeypatch.setattr(channels, "_declared", [Channel, TriggerChannel])
    for name, value in vars(Registry()).items():
        monkeypatch.setattr(registry, name, value)


@pytest.fixture
def install_app(
    blank: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Write an app's modules, and install it beside ours."""
    monkeypatch.syspath_prepend(tmp_path)
    # Bytecode is valid by the second: a module rewritten within it would not be read again.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    installed: list[Any] = []

    def install(label: str, **modules: str) -> None:
        package = tmp_path / label
        package.mkdir()
        for module, source in {"__init__": "", **modules}.items():
            (package / f"{module}.py").write_text(source)
        override = override_settings(INSTALLED_APPS=["pgpubsub_sql", label])
        installed.append((label, override))
        override.enable()

    yield install
    for label, override in reversed(installed):
        override.disable()
        for module in [m for m in sys.modules if m.partition(".")[0] == label]:
            del sys.modules[module]


class Undo(Exception):
    """What a caller raises and means to handle."""


@contextmanager
def undone(using: str | None = None) -> Iterator[None]:
    """Roll back the block, a transaction or a savepoint, as an exception does that is handled."""
    with suppress(Undo), transaction.atomic(using):
        yield
        raise Undo


def announce_sleep(execute: Execute, names: Iterable[str]) -> None:
    """Have writers to these channels notify, as a worker does that sleeps."""
    rows = execute(query("buckets"), {"channels": list(names)})
    execute(query("announce_sleep"), {"buckets": [bucket for _, bucket in rows]})


class Ear:
    """A LISTEN connection of its own, for which writers notify as for a worker that sleeps."""

    def __init__(self, *names: str, using: str = "default") -> None:
        self.using = using
        self.doorbell = Doorbell([*names, SENTINEL], using=using)

    def __enter__(self) -> Ear:
        self.doorbell.open()
        announce_sleep(self.doorbell.execute, self.doorbell.names)
        return self

    def __exit__(self, *exception: object) -> None:
        self.doorbell.close()

    def notifies(self) -> list[Notify]:
        """Return everything that was sent up to now, in order."""
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [SENTINEL])
        heard: list[Notify] = []

        def complete() -> bool:
            heard.extend(self.doorbell.notifies())
            return bool(heard) and heard[-1].channel == SENTINEL

        eventually(complete)
        return heard[:-1]

    def messages(self) -> list[dict[str, Any]]:
        """Return everything that was sent, as JSON."""
        return [json.loads(one.payload) for one in self.notifies()]
