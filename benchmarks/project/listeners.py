"""Our listeners. Not imported in the environments of peers."""

from __future__ import annotations

import datetime
import time
from array import array

from benchmarks.programs.program import LEDGER
from benchmarks.project import channels
from benchmarks.project.models import CustomItem, Entry, Event, Item, KeptItem
from pgpubsub_sql import batch_listener, listener, post_insert_listener

lags = array("d")
"""Seconds between the statement that wrote an ``Event`` and its listener."""


@listener(channels.Nothing)
@listener(channels.Keyed)
def do_nothing(number: int, name: str) -> None:
    LEDGER.add(number)


@listener(channels.Inserts)
def insert(number: int, name: str) -> None:
    LEDGER.add(number)
    Entry.objects.create(name=name, data={"number": number})


@batch_listener(channels.Lists)
def insert_list(messages: list[channels.Lists]) -> None:
    for one in messages:
        LEDGER.add(one.number)
    Entry.objects.bulk_create(Entry(name=one.name, data={"number": one.number}) for one in messages)


@listener(channels.Large)
def read_large(number: int, text: str) -> None:
    LEDGER.add(number)


@listener(channels.Ephemeral)
def hear(number: int, name: str, day: datetime.date) -> None:
    LEDGER.add(number)


@post_insert_listener(channels.Items)
def read_item(new: Item) -> None:
    LEDGER.add(new.pk)


@post_insert_listener(channels.KeptItems)
def read_kept_item(new: KeptItem) -> None:
    LEDGER.add(new.pk)


@post_insert_listener(channels.CustomItems)
def read_custom_item(new: CustomItem) -> None:
    LEDGER.add(new.pk)


@post_insert_listener(channels.Events)
def read_event(new: Event) -> None:
    LEDGER.add(new.pk)
    lags.append(time.time() - new.sent)


for channel in channels.MORE:

    @listener(channel)
    def read_number(number: int) -> None:
        LEDGER.add(number)
