"""PgQueuer, by asyncpg or psycopg."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

from pgqueuer.db import AsyncpgDriver, PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.programs.program import LEDGER, Program, main

CHUNK = 10_000


class PgQueuer(Program):
    """Runs a ``QueueManager`` with a handler that does nothing."""

    def __init__(self, driver: str = "asyncpg", batch: str = "10", loop: str = "asyncio") -> None:
        self.driver = driver
        self.batch = int(batch)
        self.loop = new_loop(loop)
        self.queries: Queries = self.loop.run_until_complete(self._connect())

    async def _connect(self) -> Queries:
        if self.driver == "asyncpg":
            import asyncpg

            return Queries(AsyncpgDriver(await asyncpg.connect()))
        import psycopg

        connection = await psycopg.AsyncConnection.connect(autocommit=True)
        return Queries(PsycopgDriver(connection))

    def set_up(self) -> None:
        self.loop.run_until_complete(self.queries.install())

    def store(self, workload: str, count: int) -> None:
        self.loop.run_until_complete(self._store(count))

    async def _store(self, count: int) -> None:
        driver = self.queries.driver
        await driver.execute("TRUNCATE pgqueuer, pgqueuer_log")
        for start in range(1, count + 1, CHUNK):
            numbers = range(start, min(start + CHUNK, count + 1))
            payloads = [payload(number) for number in numbers]
            await self.queries.enqueue(["handle"] * len(payloads), payloads, [0] * len(payloads))
        await driver.execute("VACUUM ANALYZE pgqueuer")
        await driver.execute("CHECKPOINT")

    def handle_stored(self, workload: str) -> float:
        self.loop.run_until_complete(self._run(QueueExecutionMode.drain))
        return self.logged

    async def _run(self, mode: QueueExecutionMode) -> None:
        # A QueueManager closes its connection when it ends, and runs once.
        queries = await self._connect()
        log_jobs = queries.log_jobs

        async def log_and_note(*arguments: Any) -> None:
            await log_jobs(*arguments)
            self.logged = time.perf_counter()

        # With psycopg it takes four seconds to end, which are no part of draining.
        queries.log_jobs = log_and_note
        manager = QueueManager(queries)

        @manager.entrypoint("handle")
        async def handle(job: Job) -> None:
            LEDGER.add(json.loads(job.payload or b"")["number"])

        self.loop.add_signal_handler(signal.SIGTERM, manager.shutdown.set)
        await manager.run(batch_size=self.batch, mode=mode)

    def left(self, workload: str) -> int:
        rows: list[dict[str, Any]] = self.loop.run_until_complete(
            self.queries.driver.fetch("SELECT count(*) AS count FROM pgqueuer")
        )
        return int(rows[0]["count"])

    def receive(self, kind: str) -> None:
        self.loop.run_until_complete(self._run(QueueExecutionMode.continuous))

    def send_one(self, number: int, held: float) -> float:
        started = time.perf_counter()
        self.loop.run_until_complete(self.queries.enqueue("handle", payload(number)))
        return started


def payload(number: int) -> bytes:
    """Return the payload of a job."""
    return json.dumps({"number": number, "name": f"name {number}"}).encode()


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop of asyncio or uvloop."""
    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


if __name__ == "__main__":
    main(PgQueuer)
