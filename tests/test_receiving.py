"""Channels as people name and change them, against a worker that is a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pgpubsub_sql import Notification
from pgpubsub_sql.sql import MAX_NAME_BYTES, shorten
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.ledger import calls, sql

pytestmark = pytest.mark.django_db(transaction=True)

DURABLE = [
    "CAPITALS",
    "two words, and more",
    'O\'Hara "x" `y` [z]',
    '"; DROP TABLE app_entry; --',
    "'; DROP TABLE app_entry; --",
    "back\\slash \\u0041 \n\t",
    "100 % %s %(channel)s",
    ':"channel" :{sql} $1 $pgpubsub$',
    "名前 🎉 äöü",
    "ä" * 31 + "x",
    "x" * 64,
]
EPHEMERAL = [name.swapcase() for name in DURABLE]

SETTINGS = """
from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "odd"]
"""
CHANNELS = """
import dataclasses
import json
import pathlib

import pgpubsub_sql
from tests.app.listeners import note

NAMES = json.loads(pathlib.Path(__file__).with_name("names.json").read_text())


def declare(number, name, is_durable):
    made = dataclasses.make_dataclass(
        f"Odd{number}",
        [("said", str)],
        bases=(pgpubsub_sql.Channel,),
        namespace={
            "__module__": __name__, "channel_name": name, "lock_notifications": is_durable
        },
    )

    @pgpubsub_sql.listener(made)
    def hear(said, notification):
        note(said, name=notification.channel)


for number, (name, is_durable) in enumerate(NAMES):
    declare(number, name, is_durable)
"""


def send(function: str, names: list[str], said: str) -> None:
    for name in names:
        sql(f"SELECT {function}(%s, %s)", shorten(name), json.dumps({"said": said}))


def names(said: str) -> list[str]:
    return [call["name"] for call in calls(said)]


def test_channel_names_of_every_kind_are_received(
    listen: Callable[..., Listen], tmp_path: Path
) -> None:
    """P2, P3 and P5; and rows that wait since their channel was switched, to durable or from it."""
    odd = tmp_path / "odd"
    odd.mkdir()
    declared = [(name, True) for name in DURABLE] + [(name, False) for name in EPHEMERAL]
    for file, text in {
        "__init__.py": "",
        "channels.py": CHANNELS,
        "names.json": json.dumps(declared),
        "../odd_settings.py": SETTINGS,
    }.items():
        (odd / file).write_text(text)
    everyone = [shorten(name) for name, _ in declared]
    assert MAX_NAME_BYTES in {len(name.encode()) for name in DURABLE}
    send("pgpubsub_notify", everyone, "stored before")
    listen("--worker", "--settings", "odd_settings", "--pythonpath", str(tmp_path)).ready()
    send("pgpubsub_notify", everyone, "stored after")
    send("pg_notify", EPHEMERAL, "sent")
    eventually(lambda: not Notification.objects.exists())
    eventually(lambda: len(names("sent")) == len(EPHEMERAL))
    assert sorted(names("stored before")) == sorted(everyone)
    assert sorted(names("stored after")) == sorted(everyone)
    assert names("sent") == [shorten(name) for name in EPHEMERAL]


def test_rows_of_a_trigger_that_still_stores_are_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a channel that is ephemeral already: the code comes first, the migration later."""
    monkeypatch.setattr(ItemChannel, "lock_notifications", False)
    Item.objects.create(name="before")
    worker = Worker([ItemChannel])
    with worker.shutdown:
        worker._connect()
        worker._poll()
        worker._look_ahead()
        Item.objects.create(name="after")
        worker.step()
        worker._poll()
        worker.doorbell.close()
    assert [call["name"] for call in calls("item_inserted")] == ["before", "after"]
    assert not Notification.objects.exists()
