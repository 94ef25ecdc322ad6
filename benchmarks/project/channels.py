"""Our channels. Not imported in the environments of peers."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from benchmarks.project.models import CustomItem, Event, Item, KeptItem
from pgpubsub_sql import Channel, TriggerChannel


@dataclass
class Nothing(Channel):
    number: int
    name: str
    lock_notifications = True


@dataclass
class Keyed(Channel):
    number: int
    name: str
    lock_notifications = True
    ordering_key = "name"


@dataclass
class Inserts(Channel):
    number: int
    name: str
    lock_notifications = True


@dataclass
class Lists(Channel):
    number: int
    name: str
    lock_notifications = True


@dataclass
class Large(Channel):
    number: int
    text: str
    lock_notifications = True


@dataclass
class Ephemeral(Channel):
    number: int
    name: str
    day: datetime.date


@dataclass
class Items(TriggerChannel):
    model = Item
    lock_notifications = True


@dataclass
class KeptItems(TriggerChannel):
    model = KeptItem
    lock_notifications = True
    keep = datetime.timedelta(days=7)


@dataclass
class CustomItems(TriggerChannel):
    model = CustomItem
    lock_notifications = True


@dataclass
class Events(TriggerChannel):
    model = Event
    lock_notifications = True


def _channel(number: int) -> type[Channel]:
    members = {"__module__": __name__, "__annotations__": {"number": int}}
    return dataclass(type(f"More{number}", (Channel,), members | {"lock_notifications": True}))


MORE = [_channel(number) for number in range(int(os.environ.get("BENCHMARK_CHANNELS", "0")))]
"""For a project of many channels."""
