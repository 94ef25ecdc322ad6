"""What the tests of django-pgpubsub import of it and pgpubsub_sql does not have, in terms of that.

It is copied beside their tests, as ``adapters``.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection

from pgpubsub_sql import Channel, TriggerChannel
from pgpubsub_sql.channels import codec
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.worker.decoding import decode_message
from pgpubsub_sql.worker.delivery import Delivery
from tests.registries import Ear

POLL = True


class Connection:
    """What ``listen_to_channels()`` returns: NOTIFYs, and what they have left to do."""

    def __init__(self) -> None:
        self._ear = Ear(*(channel.postgres_name() for channel in registry.channels()))
        self._ear.__enter__()
        self._notifies: list[Any] = []

    @property
    def notifies(self) -> list[Any]:
        """All NOTIFYs that have not been handled, as psycopg2 has read them with the last query."""
        self.poll()
        return self._notifies

    @notifies.setter
    def notifies(self, value: list[Any]) -> None:
        self.poll()
        self._notifies = value

    def poll(self) -> None:
        """Read what was sent."""
        self._notifies += self._ear.notifies()

    def close(self) -> None:
        """Stop listening."""
        self._ear.__exit__()


def listen_to_channels() -> Connection:
    """Listen to all channels."""
    return Connection()


def process_notifications(heard: Connection) -> None:
    """Handle what was sent, and what is stored."""
    heard.poll()
    notifies, heard.notifies = heard.notifies, []
    delivery = Delivery(registry.channels(), using="default", schema="public")
    for notify in notifies:
        if notify.payload:
            delivery.handle_ephemeral(notify.channel, deque([notify.payload]))
    listen()


def listen(recover: bool = True) -> None:
    """Handle what is stored. Messages that fail stay there, as there."""
    try:
        call_command("listen", "--drain", "--worker")
    except CommandError as error:
        if "Messages failed" not in str(error):
            raise


def _serialize(self: Channel) -> str:
    names = codec(type(self)).fields
    return codec(type(self)).encode({name: getattr(self, name) for name in names})


def _deserialize(cls: Any, payload: Any) -> Any:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return decode_message(cls, text, using=connection.alias).fields


Channel.serialize = _serialize  # type: ignore[attr-defined]
Channel.deserialize = classmethod(_deserialize)  # type: ignore[attr-defined]
TriggerChannel.deserialize = classmethod(_deserialize)  # type: ignore[attr-defined]
