"""A stranger who may connect, and no more, and sends what no trigger and no project has sent."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from django.db import connection

from pgpubsub_sql.worker.doorbell import Doorbell
from tests.torture.channels import CHANNELS, Alone, LiveRows, OrderedRows, Rows
from tests.torture.stage import STRANGER

PAUSE_SECONDS = 0.1
FLOOD = 50
WRITER = 666

GARBAGE = (
    *("garbage", "[]", "null", "1", '"text"', "{", "\x01", "{}" * 100, "[" * 3000, "NaN", "{}"),
    *('{"$ref": true}', '{"$ref": 1}', '{"$ref": "1"}', '{"$ref": null}', '{"$ref": 1e400}'),
    *('{"$ref": -1}', '{"$ref": 9223372036854775808}', '{"$ref": [1]}', '{"$ref": 1.5}'),
    *('{"$raw": "{}"}', '{"$raw": 1}', '{"$schema": "public"}', '{"$schema": 1}', '{"$id": 1}'),
    *('{"$context": 1}', '{"kwargs": {}}', '{"number": "\\u0000"}', '{"number": "\\ud800"}'),
    *('{"op": "INSERT"}', '{"op": true, "old": 1, "new": 2}', '{"old": null, "new": null}'),
    *('{"$sig": 1, "new": {}}', '{"$sig": "' + "0" * 64 + '", "new": {}}'),
)
"""What no listener can be called with, on any channel."""

FORBIDDEN = (
    "SELECT pgpubsub_notify('torture.Alone', %s::jsonb)",
    "SELECT pgpubsub_store_v1('torture.Alone', %s::jsonb, NULL, NULL, NULL)",
    "SELECT pgpubsub_send_v1('torture.LiveRows', %s::jsonb)",
    "INSERT INTO pgpubsub_sql_notification (channel, payload) VALUES ('torture.Rows', %s::jsonb)",
)
"""What needs a privilege."""


class Forger(threading.Thread):
    """Sends to every channel until it is told to stop, and listens to what it can repeat."""

    def __init__(self, seed: str) -> None:
        super().__init__(name="forger")
        self.stopping = threading.Event()
        self._random = random.Random(f"{seed} forger")
        self._heard = deque[str](maxlen=100)

    def run(self) -> None:
        """Forge, on a new connection after each that was lost."""
        while not self.stopping.wait(PAUSE_SECONDS):
            with suppress(connection.Database.Error):
                self._connect_and_forge()

    def _connect_and_forge(self) -> None:
        parameters = connection.get_connection_params() | {"user": STRANGER}
        doorbell = Doorbell([LiveRows.postgres_name()], using="default")
        with (
            closing(connection),
            closing(connection.Database.connect(**parameters)) as raw,
            closing(doorbell),
        ):
            doorbell.open()
            raw.autocommit = True
            while not self.stopping.wait(self._random.expovariate(1 / PAUSE_SECONDS)):
                self._heard.extend(one.payload for one in doorbell.notifies())
                self._random.choice(WAYS)(self, raw.cursor())

    def flood(self, cursor: Any) -> None:
        """Ring again and again."""
        name = self._random.choice(CHANNELS).postgres_name()
        for _ in range(FLOOD):
            notify(cursor, name, "")

    def send_garbage(self, cursor: Any) -> None:
        """Send what is not to be read."""
        name = self._random.choice(CHANNELS).postgres_name()
        notify(cursor, name, self._random.choice(GARBAGE))

    def forge_a_row(self, cursor: Any) -> None:
        """Send what a trigger would send for a row that never was."""
        name = self._random.choice([Rows, OrderedRows, LiveRows]).postgres_name()
        notify(cursor, name, json.dumps(self._row()))

    def forge_a_message(self, cursor: Any) -> None:
        """Send a good message, on a channel that accepts none from strangers."""
        message = {"writer": WRITER, "number": self._random.randrange(10**6)}
        notify(cursor, Alone.postgres_name(), json.dumps(message))

    def repeat(self, cursor: Any) -> None:
        """Send once more what was sent already, signature and all."""
        if self._heard:
            name = self._random.choice([LiveRows, Rows]).postgres_name()
            notify(cursor, name, self._random.choice(self._heard))

    def do_what_is_forbidden(self, cursor: Any) -> None:
        """Call our functions, and write to our table."""
        with suppress(connection.Database.ProgrammingError):
            cursor.execute(self._random.choice(FORBIDDEN), [json.dumps(self._row())])

    def _row(self) -> dict[str, Any]:
        number = self._random.randrange(10**6)
        row = {"id": number, "writer": WRITER, "number": number, "key": "free 1"}
        return {
            "op": "INSERT",
            "when": "AFTER",
            "old": None,
            "new": row | {"mood": "good", "failures": 0},
            "context": {"user": "root"},
            "writer": WRITER,
            "number": number,
        }


WAYS: tuple[Callable[[Forger, Any], None], ...] = (
    Forger.flood,
    *[Forger.send_garbage] * 4,
    *[Forger.forge_a_row] * 3,
    Forger.forge_a_message,
    Forger.repeat,
    Forger.do_what_is_forbidden,
)


def notify(cursor: Any, name: str, payload: str) -> None:
    cursor.execute("SELECT pg_notify(%s, %s)", (name, payload))
