"""procrastinate, by psycopg."""

from __future__ import annotations

import asyncio
import time

from procrastinate import App, PsycopgConnector

from benchmarks.programs.program import LEDGER, Program, main

CHUNK = 1_000
app = App(connector=PsycopgConnector(conninfo=""))


@app.task(name="handle")
async def handle(number: int, name: str) -> None:
    LEDGER.add(number)


class Procrastinate(Program):
    """Runs a worker with a task that does nothing."""

    def __init__(self, concurrency: str = "1", delete: str = "never") -> None:
        self.concurrency = int(concurrency)
        self.delete = delete
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(app.open_async())

    def set_up(self) -> None:
        self.loop.run_until_complete(app.schema_manager.apply_schema_async())

    def store(self, workload: str, count: int) -> None:
        self.loop.run_until_complete(self._store(count))

    async def _store(self, count: int) -> None:
        await app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")
        for start in range(1, count + 1, CHUNK):
            numbers = range(start, min(start + CHUNK, count + 1))
            await handle.batch_defer_async(
                *({"number": number, "name": f"name {number}"} for number in numbers)
            )
        await app.connector.execute_query_async("ANALYZE procrastinate_jobs")

    def handle_stored(self, workload: str) -> None:
        self._run(wait=False)

    def _run(self, *, wait: bool) -> None:
        self.loop.run_until_complete(
            app.run_worker_async(wait=wait, concurrency=self.concurrency, delete_jobs=self.delete)
        )

    def left(self, workload: str) -> int:
        query = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status <> 'succeeded'"
        row = self.loop.run_until_complete(app.connector.execute_query_one_async(query))
        return int(row["count"])

    def receive(self, kind: str) -> None:
        self._run(wait=True)

    def send_one(self, number: int, held: float) -> float:
        started = time.perf_counter()
        self.loop.run_until_complete(handle.defer_async(number=number, name="sent"))
        return started


if __name__ == "__main__":
    main(Procrastinate)
