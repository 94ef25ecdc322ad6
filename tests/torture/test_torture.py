"""The torture, for a short while."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

SECONDS = 15


@contextlib.contextmanager
def torture() -> Iterator[subprocess.Popen[str]]:
    """Run it; it cleans up after itself, if it is asked to."""
    command = [sys.executable, "-m", "tests.torture", str(SECONDS)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate()


@pytest.mark.timeout(240)
def test_everything_is_handled_once_and_in_order_whatever_befalls_it() -> None:
    with torture() as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    figures = re.search(r"^  all ([\d, ]+)$", output, re.MULTILINE)[1].replace(",", "").split()
    committed, _, handled, _, unreadable = map(int, figures)
    assert committed == handled + unreadable > 0, output
