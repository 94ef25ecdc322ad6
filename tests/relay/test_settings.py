"""``PGPUBSUB_RELAY``: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgpubsub_sql.relay.settings import _READERS, RelaySettings, relay_settings

SERVERS = ["nats://127.0.0.1:4222"]


def test_every_field_can_be_set() -> None:
    assert [field.name for field in dataclasses.fields(RelaySettings)] == list(_READERS)


def test_what_is_not_given_has_a_default(settings: Any) -> None:
    settings.PGPUBSUB_RELAY = {"servers": SERVERS}
    assert relay_settings() == RelaySettings(servers=("nats://127.0.0.1:4222",))


def test_all_is_read(settings: Any) -> None:
    given = {
        "servers": ("tls://a:4222", "tls://b"),
        "origin": "shop",
        "sources": ("crm",),
        "partitions": 4,
        "replicas": 1,
        "max_age": datetime.timedelta(days=2),
        "user": "relay",
        "password": "secret",
        "tls_ca": "ca.pem",
    }
    settings.PGPUBSUB_RELAY = given
    assert relay_settings() == RelaySettings(**given)  # type: ignore[arg-type]
    assert relay_settings().kept == datetime.timedelta(days=3)


def test_it_does_not_show_its_secrets() -> None:
    shown = repr(RelaySettings(servers=(), user="relay", password="hush", token="hush"))
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "PGPUBSUB_RELAY is not set. It tells how to reach the broker"),
        ("nats://127.0.0.1:4222", "must be a dictionary"),
        ({}, "has no 'servers'. Give their addresses"),
        ({"servers": []}, "the list is empty"),
        ({"servers": "nats://127.0.0.1:4222"}, "'servers' = .*: it must be a list"),
        ({"servers": ["127.0.0.1:4222"]}, "'127.0.0.1:4222' among its 'servers': an address is"),
        ({"servers": ["nats://u:p@host:4222"]}, "among its 'servers'"),
        (
            {"servers": SERVERS, "Origin": "shop"},
            "unknown key 'Origin'. It may have: credentials, ",
        ),
        ({"servers": SERVERS, "origin": "my shop"}, "'origin' = 'my shop': an origin is 1 to 32"),
        ({"servers": SERVERS, "origin": "o" * 33}, "an origin is 1 to 32"),
        ({"servers": SERVERS, "sources": ["a.b"]}, "'a.b' among its 'sources'"),
        ({"servers": SERVERS, "origin": "a", "sources": ["a"]}, "does not receive what it has"),
        ({"servers": SERVERS, "partitions": 0}, "'partitions' = 0: it must be an integer from 1"),
        ({"servers": SERVERS, "partitions": True}, "'partitions' = True"),
        ({"servers": SERVERS, "replicas": 2}, "'replicas' = 2: it must be 1, 3 or 5"),
        ({"servers": SERVERS, "max_age": 7}, "'max_age' = 7: it must be a timedelta"),
        ({"servers": SERVERS, "max_age": datetime.timedelta(minutes=1)}, "at least an hour"),
        ({"servers": SERVERS, "user": "relay"}, "both 'user' and 'password'"),
        ({"servers": SERVERS, "token": 7}, "a 'token' that is not a string"),
        ({"servers": SERVERS, "tls_key": "key.pem"}, "without the 'tls_certificate'"),
        ({"servers": SERVERS, "tls_ca": ""}, "'tls_ca' = ''"),
    ],
)
def test_what_cannot_be_used_is_named(settings: Any, given: Any, message: str) -> None:
    settings.PGPUBSUB_RELAY = given
    with pytest.raises(ImproperlyConfigured, match=message):
        relay_settings()


def test_a_publisher_needs_an_origin(settings: Any) -> None:
    settings.PGPUBSUB_RELAY = {"servers": SERVERS}
    with pytest.raises(ImproperlyConfigured, match=r"has no 'origin'\. Give the name"):
        relay_settings().publisher()
