"""Does what pages of the documentation say, as a reader would, and compares the outcome.

``python``
    If it begins with ``# <file>``, it is that file, or its end if it says so. Else it is executed
    in the project; all such blocks of a page share one interpreter.
``console``
    ``$`` lines are commands, ``>`` lines continue them, ``^C`` stops the worker. Lines below a
    command are what it must print; … stands for anything.
``text``
    Lines that ``manage.py listen`` must print.
``sql``
    It is executed by psql.
``json``
    It is JSON; below ``<!-- channel: blog.PostReads -->`` also a message that this channel reads.
``javascript``
    It is the file that its first line, ``// <file>``, names.
``ini``, ``yaml``
    It can be parsed, and each ``manage.py listen`` in it works.
``dockerfile``
    Each line is an instruction, and the last one is a command without a shell.

Whatever a page does at port 8080 or 4222 is done at another one, which is free. A ``nats-server``
goes on in the background.

Anything else is an error, so that nothing in a page goes untried; only a block below
``<!-- needs: npm -->`` is left out where there is no such program. A block within an HTML comment
is done like the others; readers do not see it. A page that begins with
``<!-- continues README.md -->`` finds what that page has left behind; the others find nothing.

Run as a program, with the interpreter whose environment is to be tried, which need not know this
repository::

    python tests/walkthrough.py README.md#Quickstart docs/howto/other-apps-models.md
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- (?P<word>channel|needs): (?P<value>\S+) -->\n)?"
    r"^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_CONTINUES = re.compile(r"^<!-- continues (\S+) -->$", re.MULTILINE)
_FILE = re.compile(r"(?:#|//) (\S+\.(?:py|mjs))( \(at the end\))?\n")
_DONE_BY_WHOEVER_RUNS_THIS = ("python3 -m venv ", ". .venv/", "pip install ", "make ")
_REFUSED = re.compile(r"^(CommandError|ERROR): ", re.MULTILINE)
_SERVES = "python -m pgpubsub_sql.embedded"  # as somebody has done already
_DOCKER = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}
INTERPRETER = Path(__file__).with_name("interpreter.py")
DEADLINE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code of a page."""

    language: str
    text: str
    channel: str | None
    """The channel that the page says reads it."""
    needs: str | None
    """The program without which it is left out."""
    place: str
    """Where it is, for messages about it."""


def blocks(page: str) -> list[Block]:
    """Return the blocks of ``file`` or ``file#Heading``, those in comments too."""
    file, _, heading = page.partition("#")
    text = Path(file).read_text(encoding="utf-8")
    start = text.index(f"\n## {heading}\n") if heading else 0
    end = text.find("\n## ", start + 1) if heading else -1
    return [
        Block(
            language=found["language"],
            text=found["text"],
            channel=found["value"] if found["word"] == "channel" else None,
            needs=found["value"] if found["word"] == "needs" else None,
            place=f"{file}:{text.count(chr(10), 0, found.start('text'))}",
        )
        for found in _BLOCK.finditer(text, start, end if end > 0 else len(text))
        if not found["language"].startswith("{")  # a directive of Sphinx
    ]


def continued_by(page: str) -> str | None:
    """Return the page that *page* continues."""
    found = _CONTINUES.search(Path(page).read_text(encoding="utf-8"))
    return found[1] if found else None


def transcript(text: str) -> Iterator[tuple[str, str]]:
    """Return each command of a console, and what it printed."""
    parts = re.split(r"^(?:\$ (.*(?:\n> .*)*)|(\^C))$", text, flags=re.MULTILINE)
    assert not parts[0], f"Output without a command: {parts[0]}"
    for shell, key, output in zip(*[iter(parts[1:])] * 3, strict=True):
        yield key or shell.replace("\n> ", "\n"), output.strip()


def free_port() -> str:
    """Return a port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


def docker_instructions(text: str) -> dict[str, list[str]]:
    """Return the arguments of each kind of instruction, the last of its kind; a list as a list."""
    found = {}
    for line in filter(None, re.sub(r"^#.*$", "", text, flags=re.MULTILINE).splitlines()):
        name, _, rest = line.partition(" ")
        assert name in _DOCKER, line
        found.pop(name, None)
        found[name] = json.loads(rest) if name == "CMD" else rest.split()
    return found


def lines_like(expected: str) -> re.Pattern[str]:
    """Return what matches lines as *expected*; … stands for anything."""
    return re.compile(f"^{re.escape(expected).replace('…', '.*')}$", re.MULTILINE | re.DOTALL)


class Walk:
    """One reader, in one directory, with one worker and one interpreter at most."""

    def __init__(self, directory: Path, environment: dict[str, str], *programs: Path) -> None:
        self.directory = directory
        self.log = directory / "listen.log"
        self.worker: subprocess.Popen[bytes] | None = None
        self.interpreter: subprocess.Popen[str] | None = None
        # As in an activated environment, whose commands come first, and in a terminal.
        path = [*map(str, programs), str(Path(sys.executable).parent), environment["PATH"]]
        self.environment = environment | {
            "PATH": os.pathsep.join(path),
            "COLUMNS": "80",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.environment["NPM_CONFIG_PREFER_OFFLINE"] = "true"
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = {port: free_port() for port in ("8080", "4222")}
        """Ports that pages name, and those that stand for them."""
        self.environment["PYTEST_PLUGINS"] = "pytest_pgpubsub_sql"  # a clone need not be installed

    def follow(self, page: list[Block]) -> None:
        """Do every step; raise if a command fails or the outcome differs."""
        try:
            for block in page:
                if block.needs and not shutil.which(block.needs):
                    continue
                do = getattr(self, f"do_{block.language}", None)
                assert do, f"{block.place}: nothing is known to do with {block.language!r}"
                try:
                    do(replace(block, text=self.at_free_ports(block.text)))
                except Exception as error:
                    error.add_note(f"In the block at {block.place}")
                    raise
        finally:
            self.stop_interpreter()
            self.stop()
            for server in self.servers:
                server.kill()
                server.wait(DEADLINE_SECONDS)

    def at_free_ports(self, text: str) -> str:
        """Return *text* with free ports instead of those that pages name."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def do_python(self, block: Block) -> None:
        """Write the file that the block names, or execute it."""
        if not (named := _FILE.match(block.text)):
            self.execute(block.text, block.place)
            return
        self.stop_interpreter()  # it would not know of the new code
        file = self.directory / named[1]
        with file.open("a" if named[2] else "w", encoding="utf-8") as opened:
            opened.write(block.text[named.end() :])

    do_javascript = do_python

    def do_console(self, block: Block) -> None:
        """Run the commands; the worker goes on in the background."""
        for command, output in transcript(block.text):
            if command == "^C":
                self.stop()
            elif command.startswith(_DONE_BY_WHOEVER_RUNS_THIS) or command == _SERVES:
                continue
            elif command.startswith("nats-server "):
                self.serve(command)
            elif "manage.py listen" in command and not (
                "--drain" in command or _REFUSED.search(output)
            ):
                self.listen(command, output)
                self.await_lines(output)
            else:
                self.run(command, output)

    def do_text(self, block: Block) -> None:
        """Wait until the worker has printed every line."""
        self.await_lines(block.text)

    def do_sql(self, block: Block) -> None:
        """Execute the statements."""
        psql = "psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file -"
        self.run(psql, "", stdin=block.text)

    def do_json(self, block: Block) -> None:
        """Parse it; have its channel decode it."""
        json.loads(block.text)
        if block.channel:
            self.execute(
                "from pgpubsub_sql.channels import find_channel\n"
                "from pgpubsub_sql.worker.decoding import decode_message\n"
                f"channel = find_channel({block.channel!r})\n"
                f"decode_message(channel, {block.text!r}, using='default')\n",
                block.place,
            )

    def do_ini(self, block: Block) -> None:
        """Parse it, and try the workers that it starts."""
        configparser.ConfigParser(interpolation=None).read_string(block.text)
        self.try_workers(block.text)

    def do_yaml(self, block: Block) -> None:
        """Parse it, and try the workers that it starts."""
        import yaml  # here, as where README and wheel are tried there is none

        yaml.safe_load(block.text)
        self.try_workers(block.text)

    def do_dockerfile(self, block: Block) -> None:
        """Parse it."""
        assert list(docker_instructions(block.text))[-1] == "CMD"

    def try_workers(self, text: str) -> None:
        """Give each worker its arguments, and let it end when it has nothing to do."""
        for arguments in re.findall(r"manage\.py listen(.*)$", text, re.MULTILINE):
            self.run(f"python manage.py listen {arguments} --drain", "")

    def run(self, command: str, output: str, stdin: str = "") -> None:
        """Run a command of the shell, and compare what it prints if the page shows that."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        refused = done.returncode != 0
        assert refused == bool(_REFUSED.search(output)), f"{command}\n{done.stdout}"
        printed = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        same = not output or lines_like(output).fullmatch(printed)
        assert same, f"{command}\n{printed}\ninstead of\n{output}"

    def execute(self, text: str, place: str) -> None:
        """Execute Python in the project."""
        if self.interpreter is None:
            self.interpreter = subprocess.Popen(
                [
                    "python",
                    "manage.py",
                    "shell",
                    "-v",
                    "0",
                    "-c",
                    INTERPRETER.read_text("utf-8"),
                ],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.interpreter.stdin.write(json.dumps({"text": text, "file": place}) + "\n")
        self.interpreter.stdin.flush()
        answer = self.interpreter.stdout.readline()
        assert answer, "The interpreter has gone."
        assert not (failure := json.loads(answer)), failure

    def stop_interpreter(self) -> None:
        """Let the interpreter end; the next block begins with a new one."""
        if self.interpreter:
            self.interpreter.communicate(timeout=DEADLINE_SECONDS)
            self.interpreter = None

    def listen(self, command: str, output: str) -> None:
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
        self.await_lines("…Receiving…" if "Receiving" in output else "…Listening to…")

    def serve(self, command: str) -> None:
        """Start a NATS server, and wait until it can be connected to."""
        server = subprocess.Popen(
            f"exec {command} -a 127.0.0.1 -p {self.ports['4222']}",
            shell=True,
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.DEVNULL,
        )
        self.servers.append(server)
        deadline = time.monotonic() + DEADLINE_SECONDS
        with socket.socket() as connection:
            while connection.connect_ex(("127.0.0.1", int(self.ports["4222"]))):
                assert time.monotonic() < deadline, f"{command} does not serve"
                time.sleep(0.02)

    def await_lines(self, lines: str) -> None:
        """Wait until the worker's output contains each of *lines*."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        for line in lines.splitlines():
            while not lines_like(line).search(output := self.log.read_text(encoding="utf-8")):
                assert time.monotonic() < deadline, f"{line!r} is missing in:\n{output[-2000:]}"
                time.sleep(0.02)

    def stop(self) -> None:
        """End the worker as its operator would."""
        if self.worker:
            self.worker.send_signal(signal.SIGINT)
            try:
                assert self.worker.wait(DEADLINE_SECONDS) == 0
            except (AssertionError, subprocess.TimeoutExpired) as error:
                error.add_note(self.log.read_text(encoding="utf-8"))
                raise
            self.worker = None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        steps = [block for page in sys.argv[1:] for block in blocks(page)]
        Walk(Path(temporary), dict(os.environ)).follow(steps)
