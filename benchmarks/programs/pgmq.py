"""pgmq's SQL, from psycopg2. ``pop`` deletes before a message is handled: at most once."""

from __future__ import annotations

from importlib.resources import files

import psycopg2

from benchmarks.programs.program import LEDGER, Program, main

SEND = """
    SELECT pgmq.send('queue', jsonb_build_object('number', number, 'name', 'name ' || number))
    FROM generate_series(1, %s) AS number"""


class Pgmq(Program):
    """Pops *batch* messages a transaction."""

    def __init__(self, batch: str = "1") -> None:
        self.batch = int(batch)
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()

    def set_up(self) -> None:
        self.cursor.execute(files("pgmq").joinpath("sql", "pgmq.sql").read_text())
        self.cursor.execute("SELECT pgmq.create('queue')")

    def store(self, workload: str, count: int) -> None:
        self.cursor.execute("SELECT pgmq.purge_queue('queue')")
        self.cursor.execute(SEND, [count])
        self.cursor.execute("VACUUM ANALYZE pgmq.q_queue")
        self.cursor.execute("CHECKPOINT")

    def handle_stored(self, workload: str) -> None:
        while True:
            self.cursor.execute("SELECT message FROM pgmq.pop('queue', %s)", [self.batch])
            taken = self.cursor.fetchall()
            if not taken:
                return
            for (message,) in taken:
                LEDGER.add(message["number"])

    def left(self, workload: str) -> int:
        self.cursor.execute("SELECT count(*) FROM pgmq.q_queue")
        return int(self.cursor.fetchone()[0])


if __name__ == "__main__":
    main(Pgmq)
