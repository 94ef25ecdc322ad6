"""A small pgbench, for machines without one: the same options and the same two lines."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import psycopg2


def main() -> None:
    """Write, then print how much."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--client", type=int, default=1)
    parser.add_argument("--jobs", type=int, help="No effect.")
    parser.add_argument("--time", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    pause = options.client / options.rate if options.rate else 0.0
    work = (options.file.read_text(), options.time, pause)
    with multiprocessing.get_context("fork").Pool(options.client) as pool:
        counts = pool.starmap(write, [work] * options.client, chunksize=1)
    print(f"number of transactions actually processed: {sum(counts)}")
    print(f"tps = {sum(counts) / options.time:f}")


def write(statement: str, seconds: float, pause: float) -> int:
    """Execute a statement again and again; return how often."""
    connection = psycopg2.connect("")
    connection.autocommit = True
    cursor = connection.cursor()
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        time.sleep(max(0.0, count * pause - spent))
        cursor.execute(statement)
        count += 1
    connection.close()
    return count


if __name__ == "__main__":
    main()
