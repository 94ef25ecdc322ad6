"""Somebody who may connect, and no more, and sends what no trigger and no project has sent."""

from __future__ import annotations

import json
import random
import threading
from contextlib import suppress
from typing import Any

from django.db import connection

from tests.torture.channels import CHANNELS, LiveRows, OrderedRows, Rows
from tests.torture.stage import STRANGER

PAUSE_SECONDS = 0.1
FLOOD = 50
FORGED_WRITER = 666

GARBAGE = (
    *("garbage", "[]", "null", "1", '"text"', "{", "\x01", "{}" * 100, "[" * 3000, "NaN", "{}"),
    *('{"$ref": true}', '{"$ref": 1}', '{"$ref": "1"}', '{"$ref": null}', '{"$ref": 1e400}'),
    *('{"$ref": -1}', '{"$ref": 9223372036854775808}', '{"$ref": [1]}', '{"$ref": 1.5}'),
    *('{"$raw": "{}"}', '{"$raw": 1}', '{"$schema": "public"}', '{"$schema": 1}', '{"$id": 1}'),
    *('{"$context": 1}', '{"kwargs": {}}', '{"writer": "\\u0000"}', '{"writer": "\\ud800"}'),
    *('{"op": "INSERT"}', '{"op": true, "old": 1, "new": 2}', '{"old": null, "new": null}'),
)
"""What nobody can read on any channel."""


class Forger(threading.Thread):
    """One connection of a stranger, which sends to every channel until it is told to stop."""

    def __init__(self, seed: str, stopping: threading.Event) -> None:
        super().__init__(name="forger")
        self._random = random.Random(f"{seed} forger")
        self._stopping = stopping

    def run(self) -> None:
        """Forge."""
        while not self._stopping.wait(PAUSE_SECONDS):
            with suppress(connection.Database.Error):
                self._forge_for_a_while()

    def _forge_for_a_while(self) -> None:
        parameters = connection.get_connection_params() | {"user": STRANGER}
        raw = connection.Database.connect(**parameters)
        try:
            raw.autocommit = True
            cursor = raw.cursor()
            while not self._stopping.wait(self._random.expovariate(1 / PAUSE_SECONDS)):
                self._forge(cursor)
        finally:
            raw.close()

    def _forge(self, cursor: Any) -> None:
        channel = self._random.choice(CHANNELS).postgres_name()
        kind = self._random.random()
        if kind < 0.1:
            self._flood(cursor, channel)
        elif kind < 0.6:
            self._notify(cursor, channel, self._random.choice(GARBAGE))
        else:
            channel = self._random.choice([Rows, OrderedRows, LiveRows]).postgres_name()
            self._notify(cursor, channel, json.dumps(self._row()))

    def _flood(self, cursor: Any, channel: str) -> None:
        for _ in range(FLOOD):
            self._notify(cursor, channel, "")

    def _notify(self, cursor: Any, channel: str, payload: str) -> None:
        cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))

    def _row(self) -> dict[str, Any]:
        """Make what a trigger would send for a row that never was."""
        number = self._random.randrange(10**6)
        row = {"id": number, "writer": FORGED_WRITER, "number": number, "key": "free 1"}
        return {
            "op": "INSERT",
            "when": "AFTER",
            "old": None,
            "new": row | {"mood": "good", "failures": 0},
            "context": {"user": "root"},
        }
