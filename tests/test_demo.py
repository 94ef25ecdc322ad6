"""The demo: what it promises, what it leaves behind, and that it would notice."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from example.demo.account import Account, Line, Sent, settle

ROOT = Path(__file__).resolve().parent.parent
DEMO = (sys.executable, "example/manage.py", "demo", "--settings", "example.demo_settings")
CHANNELS = ["demo.Authors", "demo.Posts", "demo.Tagged", "demo.PostsLive", "blog.PostReads"]
INTERRUPTED = 130


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for temporary files that may hold a socket, and that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


def start(temporary: Path, packages: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DEMO, "--packages", str(packages)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_with(temporary: Path) -> list[str]:
    """Return the processes that have *temporary* in their environment or command."""
    listed = subprocess.run(
        ["ps", "axeww", "-o", "pid,command"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if str(temporary) in line]


def assert_nothing_is_left(temporary: Path) -> None:
    assert processes_with(temporary) == []
    assert list(temporary.iterdir()) == []


def test_everything_arrives_although_a_worker_is_killed(temporary: Path) -> None:
    with start(temporary, packages=3) as demo:
        output, _ = demo.communicate()
    assert demo.returncode == 0, output
    for channel in CHANNELS:
        sent, handled, *wrong = re.search(
            rf"^  {channel} .*? ([\d,]+) +([\d,]+) +(\d+) +(\d+) +(\d+)$", output, re.MULTILINE
        ).groups()
        assert sent == handled != "0"
        assert wrong == ["0", "0", "0"]
    told = [line for line in output.splitlines() if "which a worker died of" not in line]
    assert max(map(len, told)) <= 84
    assert_nothing_is_left(temporary)


@pytest.mark.parametrize("moment", ["  input", "  PostgreSQL", "  kill -9", "  ROLLBACK"])
def test_ctrl_c_leaves_nothing(temporary: Path, moment: str) -> None:
    with start(temporary, packages=3) as demo:
        assert any(line.startswith(moment) for line in demo.stdout)
        if moment != "  input":
            assert processes_with(temporary)
        os.killpg(demo.pid, signal.SIGINT)
        output = demo.stdout.read()
    assert demo.returncode == INTERRUPTED, output
    assert "Traceback" not in output
    assert_nothing_is_left(temporary)


def account(ledger: list[tuple[str, int]]) -> dict[str, Line]:
    """Settle a durable and an ephemeral channel that have the same ledger.

    "early" was sent to processes 1 and 2, of which 1 is killed; "late" to processes 2 and 3.
    """
    sent = Sent(durable=["durable"], ephemeral=["ephemeral"])
    sent.join(1)
    sent.join(2)
    for channel in sent.messages:
        sent.add(channel, "early")
    sent.leave(1)
    sent.join(3)
    for channel in sent.messages:
        sent.add(channel, "late")
    return {line.channel: line for line in settle(sent, dict.fromkeys(sent.messages, ledger))}


def test_durable_messages_are_handled_by_anybody_once() -> None:
    line = account([("early", 1), ("late", 3)])["durable"]
    assert (line.sent, line.handled, line.is_good) == (2, 2, True)


def test_a_durable_message_that_nobody_handled_is_lost() -> None:
    line = account([("early", 1)])["durable"]
    assert (line.handled, line.lost, line.is_good) == (1, ["late"], False)


@pytest.mark.parametrize("second", [1, 2])
def test_a_durable_message_is_handled_twice_by_whomever(second: int) -> None:
    line = account([("early", 1), ("early", second), ("late", 2)])["durable"]
    assert (line.lost, line.twice, line.is_good) == ([], ["early"], False)


def test_ephemeral_messages_are_handled_by_everybody_who_was_there() -> None:
    line = account([("early", 1), ("early", 2), ("late", 2), ("late", 3)])["ephemeral"]
    assert (line.sent, line.handled, line.is_good) == (2, 2, True)


def test_who_was_killed_need_not_have_heard() -> None:
    assert account([("early", 2), ("late", 2), ("late", 3)])["ephemeral"].is_good


def test_an_ephemeral_message_that_one_of_them_did_not_handle_is_lost() -> None:
    line = account([("early", 1), ("late", 2)])["ephemeral"]
    assert (line.handled, line.lost) == (2, ["early", "late"])


def test_an_ephemeral_message_is_handled_twice_by_the_same_process() -> None:
    line = account([("early", 2), ("late", 2), ("late", 3), ("late", 3)])["ephemeral"]
    assert (line.lost, line.twice, line.is_good) == ([], ["late"], False)


def test_what_was_never_sent_is_a_ghost() -> None:
    line = account([("early", 1), ("late", 2), ("rolled back", 2)])["durable"]
    assert (line.ghosts, line.is_good) == (["rolled back"], False)


def test_the_demo_fails_if_one_line_is_bad_or_a_notification_is_left() -> None:
    good = account([("early", 1), ("late", 3)])["durable"]
    bad = account([("early", 1)])["durable"]
    assert Account(lines=[good, good], left=0).is_good
    assert not Account(lines=[good, bad], left=0).is_good
    assert not Account(lines=[good, good], left=1).is_good
