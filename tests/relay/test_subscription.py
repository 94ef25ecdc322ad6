"""``relay = True``: what is registered, installed and shown, without any broker."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.core.management import CommandError
from django.db import connection

import pgpubsub_sql
from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.lanes import select_lanes
from pgpubsub_sql.migrations_ops.declared_triggers import declared_triggers, specify
from pgpubsub_sql.migrations_ops.subscriptions import declared_lanes, register, registered_lanes
from pgpubsub_sql.subscriptions import Lane
from tests.management.support import run_json
from tests.registries import blank

__all__ = ("blank",)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("blank")]


def declare(*, is_heard: bool) -> type[BaseChannel]:
    @dataclass
    class Order(pgpubsub_sql.Channel):
        number: int
        lock_notifications = True
        relay = True
        channel_name = "shop.Order"

    if is_heard:
        pgpubsub_sql.listener(Order)(lambda number: None)
    return Order


def test_migrate_registers_it_beside_the_listeners() -> None:
    declare(is_heard=True)
    lanes = [Lane("shop.Order"), Lane("shop.Order", "relay")]
    assert declared_lanes() == lanes
    register(connection)
    assert [one for one in registered_lanes(connection) if one.channel == "shop.Order"] == lanes


def test_workers_handle_the_others_alone() -> None:
    order = declare(is_heard=True)
    assert select_lanes([order], None, []) == [Lane("shop.Order")]


def test_workers_have_nothing_to_do_for_a_channel_that_is_only_relayed() -> None:
    order = declare(is_heard=False)
    with pytest.raises(CommandError, match=r"To publish it: python manage.py listen --relay"):
        select_lanes([order], None, [])


def test_a_trigger_channel_has_triggers_without_a_listener() -> None:
    class Items(pgpubsub_sql.TriggerChannel):
        model = "app.Item"
        lock_notifications = True
        relay = True
        channel_name = "shop.Items"

    assert list(declared_triggers()) == [("tests", "shop.Items")]
    assert specify(Items).after == ("insert", "update", "delete")


def test_ls_shows_it() -> None:
    declare(is_heard=False)
    (row,) = [row for row in run_json("ls") if row["channel"] == "shop.Order"]
    assert row["subscriptions"] == ["relay"]
    assert row["listeners"] == ["pgpubsub_sql.listeners.publish (in batches)"]


def test_what_was_received_is_not_published() -> None:
    """Only what is stored while it is relayed is stored for the relay, too."""
    order = declare(is_heard=False)
    order.relay = False
    assert registry.channels() == []
