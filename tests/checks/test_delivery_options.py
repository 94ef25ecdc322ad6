"""E001: options that say how a channel's messages are delivered."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import pytest

import pgpubsub_sql
from pgpubsub_sql import checks
from pgpubsub_sql.channels import declared_channels

pytestmark = pytest.mark.usefixtures("blank")


def problems(**options: Any) -> list[str]:
    """Return what the checks report of a durable channel with these options."""

    @dataclass
    class Parcel(pgpubsub_sql.Channel):
        number: int
        place: str = ""
        lock_notifications = True

    for name, value in options.items():
        setattr(Parcel, name, value)
    return [problem.msg for problem in checks.check_channels()]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("notify", "no", "Parcel has notify = 'no': set True, False, or None for the setting."),
        ("retry", 5, "Parcel has the retry 5: set a pgpubsub_sql.Retry("),
        ("retry", None, "Parcel has the retry None: set a"),
        ("timeout", 0, "Parcel has timeout = 0: set a number of seconds greater than 0, or None"),
        ("timeout", "1", "Parcel has timeout = '1'"),
        ("timeout", True, "Parcel has timeout = True"),
        ("timeout", datetime.timedelta(1), "Parcel has timeout = datetime.timedelta"),
        ("timeout", float("inf"), "Parcel has timeout = inf"),
        ("batch_size", 0, "Parcel has the batch_size 0: set an integer of at least 1, or None"),
        ("batch_size", 1.5, "Parcel has the batch_size 1.5"),
        ("batch_size", True, "Parcel has the batch_size True"),
        (
            "ordering_key",
            "nmber",
            "has no field 'nmber', which its ordering_key names. Its fields are",
        ),
        ("ordering_key", ("number", "x"), "has no field 'x'"),
        ("ordering_key", "", "Parcel has the ordering_key '': set the name of a field"),
        ("ordering_key", None, "Parcel has the ordering_key None"),
        ("received_from", "kafka", "Parcel has received_from = 'kafka': set \"nats\", or None."),
        ("relay", "nats", "Parcel has relay = 'nats': set True or False."),
        ("ordering_key", {"number"}, "Parcel has the ordering_key {'number'}"),
    ],
)
def test_e001_reports_an_invalid_option(option: str, value: Any, words: str) -> None:
    (problem,) = problems(**{option: value})
    assert words in problem


def test_e001_reports_an_ordering_key_on_an_ephemeral_channel() -> None:
    (problem,) = problems(lock_notifications=False, ordering_key="number")
    assert "Parcel has an ordering_key but is ephemeral" in problem
    assert "Set lock_notifications = True" in problem


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry": pgpubsub_sql.Retry(max_attempts=1), "timeout": 0.5, "batch_size": 1},
        {"ordering_key": "number", "received_from": "nats"},
        {"ordering_key": ("number", "place")},
        {"ordering_key": ["place"]},
        {"timeout": 10, "batch_size": None, "ordering_key": ()},
    ],
)
def test_e001_accepts_valid_options(options: dict[str, Any]) -> None:
    assert problems(**options) == []


def test_e001_reports_an_ephemeral_channel_that_is_received() -> None:
    (problem,) = problems(lock_notifications=False, received_from="nats")
    assert "has received_from = 'nats' but is ephemeral" in problem


def test_e001_reports_an_ephemeral_channel_without_notify() -> None:
    """Its messages are NOTIFYs, and nothing else."""
    (problem,) = problems(lock_notifications=False, notify=False)
    assert "notify = False but is ephemeral" in problem


def test_e001_accepts_an_ephemeral_channel_that_notifies() -> None:
    assert problems(lock_notifications=False, notify=True) == []


def test_e001_reports_an_ephemeral_channel_that_is_relayed() -> None:
    (problem,) = problems(lock_notifications=False, relay=True)
    assert "has relay = True but is ephemeral" in problem


SHOP = {"servers": ["nats://127.0.0.1:1"], "origin": "shop"}


def test_e001_reports_a_channel_that_is_relayed_in_a_circle(settings: Any) -> None:
    settings.PGPUBSUB_RELAY = SHOP
    (problem,) = problems(relay=True, received_from="nats")
    assert "relay = True and received_from = 'nats'" in problem
    assert "on another channel" in problem


@pytest.mark.parametrize("given", [None, {"servers": ["nats://127.0.0.1:1"]}])
def test_w010_warns_of_a_relayed_channel_without_an_origin(settings: Any, given: Any) -> None:
    """A warning: a copy of production must not publish, and still has to start."""
    settings.PGPUBSUB_RELAY = given
    (problem,) = problems(relay=True)
    assert "PGPUBSUB_RELAY has no 'origin', so nothing publishes what" in problem


def test_w010_warns_of_a_relayed_channel_without_nats_py(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PGPUBSUB_RELAY = SHOP
    assert problems(relay=True) == []
    monkeypatch.setattr(checks.channels, "find_spec", lambda name: None)
    assert "nats-py is not installed" in checks.check_channels()[0].msg


def test_e015_reports_a_listener_with_the_subscription_of_the_relay(settings: Any) -> None:
    settings.PGPUBSUB_RELAY = SHOP
    assert problems(relay=True) == []
    (channel,) = declared_channels()
    assert checks.check_listeners() == []
    pgpubsub_sql.listener(channel, subscription="relay")(lambda number: None)
    found = [one.id for one in checks.check_listeners()]
    assert "pgpubsub_sql.E015" in found
