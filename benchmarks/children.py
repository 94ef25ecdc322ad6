"""Child processes that speak JSON lines: see ``programs/program.py``."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

from benchmarks.environments import ROOT

ANSWER_SECONDS = 1800.0


class Miscounted(Exception):
    """Messages were lost, handled twice, or left."""


class ChildFailed(Exception):
    """A child process raised an error, ended, or is silent."""


class Silent(ChildFailed):
    """A child process did not answer in time."""


class Child:
    """A running contestant; a context manager. *program* is a module of ``benchmarks.programs``."""

    def __init__(
        self, program: str, *, python: str, environment: dict[str, str], **options: str
    ) -> None:
        self.name = f"{program} {options}"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in close()
        arguments = [f"{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen(
            [python, "-m", f"benchmarks.programs.{program}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the program and return its answer."""
        self.begin(do, **arguments)
        return self.answer()

    def begin(self, do: str, **arguments: Any) -> None:
        """Call a method of the program, and do not wait for its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ChildFailed(f"{self.name} has ended.\n{self._said()}") from error

    def answer(self, within: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Return the next answer. Raises :class:`ChildFailed`."""
        try:
            line = self._answers.get(timeout=within)
        except queue.Empty:
            raise Silent(f"{self.name} is silent for {within:g} s.\n{self._said()}") from None
        if not line:
            raise ChildFailed(f"{self.name} has ended.\n{self._said()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildFailed(f"{self.name}:\n{answer['error']}")
        return answer

    def wait_for(self, what: str, within: float = ANSWER_SECONDS) -> None:
        """Wait until a listening program says that it is ``warm`` or has ``reached`` its end."""
        while what not in self.answer(within):
            pass

    def is_warm(self, within: float) -> bool:
        """Whether a listening program handles messages *within* so many seconds."""
        try:
            self.wait_for("warm", within)
        except Silent:
            return False
        return True

    def stop_listening(self) -> dict[str, Any]:
        """End ``listen`` and return its answer."""
        self.process.terminate()
        while "numbers" not in (answer := self.answer(within=60)):
            pass
        return answer

    def close(self) -> None:
        """Let the process end, or kill it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._errors.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:]


def check_counts(report: dict[str, Any], count: int) -> None:
    """Raise :class:`Miscounted` unless each of *count* messages was handled exactly once."""
    expected = {"handled": count, "distinct": count, "left": 0}
    if "written" in report:
        expected["written"] = count
    found = {name: report[name] for name in expected}
    if found != expected:
        raise Miscounted(f"Expected {expected}, found {found}.")


def check_numbers(numbers: list[int], expected: range) -> None:
    """Raise :class:`Miscounted` unless the messages of *expected* came, each exactly once."""
    found = {"handled": len(numbers), "distinct": len(set(numbers)), "left": 0}
    check_counts(found, len(expected))
    if strangers := set(numbers) - set(expected):
        raise Miscounted(f"{len(strangers)} messages were never sent.")
