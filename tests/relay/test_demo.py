"""``make demo-relay``: what it promises, and that it would notice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from example.relay.__main__ import settle
from tests.test_demo import ROOT, assert_nothing_is_left

ORDERS = [("a", 1), ("b", 1), ("a", 2)]


@pytest.mark.timeout(300)
def test_orders_arrive_once_and_in_order_although_servers_are_killed() -> None:
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        temporary = Path(name)
        temporary.chmod(0o711)
        done = subprocess.run(
            [sys.executable, "-m", "example.relay", "--seconds", "2"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert_nothing_is_left(temporary)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = re.search(r"^ +([\d,]+) +([\d,]+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert numbers is not None
    sent, handled, *wrong = numbers.groups()
    assert sent == handled != "0"
    assert wrong == ["0"] * 3


@pytest.mark.parametrize(
    ("taken", "lost", "twice", "out_of_order"),
    [
        ([("a", 1), ("a", 2), ("b", 1)], 0, 0, 0),
        ([("a", 1), ("a", 2)], 1, 0, 0),
        ([("a", 1), ("b", 1), ("a", 2), ("b", 1)], 0, 1, 0),
        ([("a", 2), ("a", 1), ("b", 1)], 0, 0, 1),
    ],
)
def test_what_goes_wrong_is_counted(
    taken: list[tuple[str, int]], lost: int, twice: int, out_of_order: int
) -> None:
    found = settle(ORDERS, taken)
    assert (found.lost, found.twice, found.out_of_order) == (lost, twice, out_of_order)
    assert found.is_good == (lost == twice == out_of_order == 0)


def test_a_demo_that_sends_nothing_is_not_good() -> None:
    assert not settle([], []).is_good
