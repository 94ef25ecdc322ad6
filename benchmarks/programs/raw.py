"""The raw limit of latency and of ephemeral dispatch: psycopg2, one table, NOTIFY."""

from __future__ import annotations

import json
import select
import signal
import time

import psycopg2

from benchmarks.programs.program import LEDGER, Program, main

BATCH = 500
CREATE = """
    CREATE TABLE queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        number bigint NOT NULL
    )"""
TAKE = """
    DELETE FROM queue WHERE id IN (
        SELECT id FROM queue ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING number"""
PUBLISH = """
    SELECT pg_notify('messages', jsonb_build_object(
        'number', number, 'name', 'name ' || number, 'day', '2026-01-01')::text)
    FROM generate_series(%(first)s, %(first)s + %(count)s - 1) AS number"""


class Raw(Program):
    """Insert, NOTIFY and claim, and nothing else."""

    def __init__(self) -> None:
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()

    def set_up(self) -> None:
        self.cursor.execute(CREATE)

    def receive(self, kind: str) -> None:
        ending: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
        self.cursor.execute("LISTEN messages")
        while not ending:
            if kind == "noop":
                self._take()
            select.select([self.connection], [], [], 0.1)
            self.connection.poll()
            if kind == "ephemeral":
                for notify in self.connection.notifies:
                    LEDGER.add(json.loads(notify.payload)["number"])
            self.connection.notifies.clear()

    def _take(self) -> None:
        while True:
            self.cursor.execute(TAKE, [BATCH])
            taken = self.cursor.fetchall()
            if not taken:
                return
            for (number,) in taken:
                LEDGER.add(number)

    def send_one(self, number: int, held: float) -> float:
        self.cursor.execute("BEGIN")
        self.cursor.execute("INSERT INTO queue (number) VALUES (%s)", [number])
        self.cursor.execute("NOTIFY messages")
        time.sleep(held)
        started = time.perf_counter()
        self.cursor.execute("COMMIT")
        return started

    def publish(self, first: int, count: int) -> None:
        self.cursor.execute(PUBLISH, {"first": first, "count": count})


if __name__ == "__main__":
    main(Raw)
