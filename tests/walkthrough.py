"""Does what pages of the documentation say, as a reader would, and compares the outcome.

A block that begins with ``# <file>`` is that file, or its end if it says so; ``$`` lines are
commands; a ``text`` block is what ``manage.py listen`` must print. Run as a program, with the
interpreter whose environment is to be tried, which need not know this repository::

    python tests/walkthrough.py README.md#Quickstart docs/howto/other-apps-models.md
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.py)( \(at the end\))?\n")
DEADLINE_SECONDS = 30


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the (language, text) of each block of ``file`` or ``file#Heading``."""
    file, _, heading = page.partition("#")
    text = Path(file).read_text(encoding="utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return _BLOCK.findall(text)


class Walk:
    """One reader, in one directory, with one worker at most."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "listen.log"
        self.worker: subprocess.Popen[bytes] | None = None
        # As in an activated environment: its commands come first.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path}
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)

    def follow(self, steps: list[tuple[str, str]]) -> None:
        """Do every step; raise if a command fails or the outcome differs."""
        try:
            for language, text in steps:
                getattr(self, f"do_{language}")(text)
        finally:
            self.stop()

    def do_python(self, text: str) -> None:
        """Write the file that the block names."""
        named = _FILE.match(text)
        assert named, f"This block names no file:\n{text}"
        with (self.directory / named[1]).open("a" if named[2] else "w", encoding="utf-8") as file:
            file.write(text[named.end() :])

    def do_console(self, text: str) -> None:
        """Run the commands; the worker goes on in the background."""
        for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
            if command.startswith("pip install"):
                continue  # whoever runs this has done it
            if command.endswith("manage.py listen"):
                self.listen(command)
            else:
                subprocess.run(
                    command, shell=True, check=True, cwd=self.directory, env=self.environment
                )

    def do_text(self, text: str) -> None:
        """Wait until the worker has printed every line."""
        for line in text.splitlines():
            self.await_line(line)

    def listen(self, command: str) -> None:
        """Start the worker anew, and wait until it listens."""
        self.stop()
        with self.log.open("wb") as log:
            self.worker = subprocess.Popen(
                f"exec {command}",
                shell=True,
                cwd=self.directory,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.await_line("Listening to")

    def await_line(self, line: str) -> None:
        """Wait until the worker's output contains *line*."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while line not in (output := self.log.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, f"{line!r} is missing in:\n{output}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the worker as its operator would."""
        if self.worker:
            self.worker.terminate()
            assert self.worker.wait(DEADLINE_SECONDS) == 0, self.log.read_text(encoding="utf-8")
            self.worker = None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        Walk(Path(temporary)).follow([block for page in sys.argv[1:] for block in blocks(page)])
