"""What a child process does with the requests of the benchmark.

A request is a line of JSON, ``{"do": "drain", "workload": "noop", "count": 1000}``: the name of a
method and its arguments. The answer is a line of JSON, too: what the method returns, or
``{"error": traceback}``.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from array import array
from collections.abc import Callable
from typing import Any


class Ledger:
    """The numbers of the messages that were handled, so that the parent can check them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was handled, and record numbers only, which is quickest."""
        self.numbers = array("q")
        self.times = array("d")
        self.add: Callable[[int], None] = self.numbers.append

    def watch(self, expected: int, say: Callable[[dict[str, Any]], None]) -> None:
        """Record times, too; say when message 0 has come, and when *expected* others have."""
        self.clear()

        def add(number: int) -> None:
            if number == 0:
                say({"warm": True})
                return
            self.numbers.append(number)
            self.times.append(time.perf_counter())
            if len(self.numbers) == expected:
                say({"reached": True})

        self.add = add

    def counts(self) -> dict[str, int]:
        """Return how many were handled, and how many different ones."""
        return {"handled": len(self.numbers), "distinct": len(set(self.numbers))}


LEDGER = Ledger()
"""Where each handler of this process calls ``LEDGER.add(number)``."""


class Program:
    """A contestant. A subclass says how messages are stored, handled and sent."""

    def __init__(self, **options: str) -> None:
        """Take the options of the command line, such as ``batch=1000``."""

    def set_up(self) -> None:
        """Create what is needed in an empty database."""
        raise NotImplementedError

    def store(self, workload: str, count: int) -> None:
        """Remove all messages and store *count*, numbered from 1."""
        raise NotImplementedError

    def handle_stored(self, workload: str) -> float | None:
        """Handle what is stored, which is timed; return when that was done, if not just now."""
        raise NotImplementedError

    def worked(self) -> float:
        """Return the seconds of processor time so far, where it is known with the server's part."""
        return time.process_time()

    def left(self, workload: str) -> int:
        """Return how many stored messages were not handled."""
        raise NotImplementedError

    def written(self) -> int:
        """Return how many rows the handlers of the workload ``insert`` have written."""
        raise NotImplementedError

    def receive(self, kind: str) -> None:
        """Listen for messages and handle them, until SIGTERM."""
        raise NotImplementedError

    def send_one(self, number: int, held: float) -> float:
        """Send a message from a transaction open for *held* seconds; return when COMMIT began."""
        raise NotImplementedError

    def publish(self, first: int, count: int) -> None:
        """Send *count* ephemeral messages in one transaction, numbered from *first*."""
        raise NotImplementedError

    def drain(self, workload: str, count: int, **more: int) -> dict[str, Any]:
        """Store and handle *count* messages; return what it took and what is to be checked."""
        LEDGER.clear()
        self.store(workload, count, **more)
        gc.collect()
        worked, started = self.worked(), time.perf_counter()
        ended = self.handle_stored(workload) or time.perf_counter()
        worked = self.worked() - worked
        peak = self.memory()["peak"]  # before what is counted takes any
        written = {"written": self.written()} if workload == "insert" else {}
        return {
            "seconds": ended - started,
            "worked": worked,
            "peak": peak,
            "left": self.left(workload),
            **LEDGER.counts(),
            **written,
        }

    def listen(self, kind: str, expected: int = -1) -> dict[str, Any]:
        """Receive until SIGTERM; return which messages came, and when."""
        LEDGER.watch(expected, self.say)
        self.receive(kind)
        return {"numbers": LEDGER.numbers.tolist(), "times": LEDGER.times.tolist()}

    def send(self, first: int, count: int, rate: float, held: float = 0.0) -> dict[str, Any]:
        """Send messages at a steady rate; return when the COMMIT of each began."""
        started, commits = time.perf_counter(), []
        for number in range(first, first + count):
            due = started + (number - first) / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            commits.append(self.send_one(number, held))
        return {"commits": commits}

    def memory(self, forget: bool = False) -> dict[str, int]:
        """Return the resident memory in kB, now and at its peak; *forget* starts a new peak."""
        if forget:
            gc.collect()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return {
            "now": int(fields["VmRSS"].split()[0]),
            "peak": int(fields["VmHWM"].split()[0]),
        }

    def say(self, answer: dict[str, Any]) -> None:
        """Send a line to the parent."""
        self._output.write(json.dumps(answer) + "\n")
        self._output.flush()

    def serve(self) -> None:
        """Answer requests until the parent closes the pipe."""
        # What libraries print goes to standard error, so that it cannot be taken for an answer.
        self._output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(self, request.pop("do"))(**request)
            except Exception:  # noqa: BLE001  # the parent raises it
                answer = {"error": traceback.format_exc()}
            self.say(answer or {})


def main(program: type[Program]) -> None:
    """Run *program* with the options of the command line."""
    program(**dict(argument.split("=", 1) for argument in sys.argv[1:])).serve()
