"""Tables that fit their terminal."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from django.core.management import call_command
from django.db import connection

from tests.conftest import ROOT
from tests.stored import park


@pytest.mark.django_db(transaction=True)
def test_a_table_is_as_wide_as_its_terminal() -> None:
    """F57: and has 80 columns in a file or a pipe."""
    park(last_error="ValueError: " + "x" * 600)
    ours, theirs = pty.openpty()
    try:
        subprocess.run(["stty", "cols", "120"], stdin=theirs, check=True)
        subprocess.run(
            [sys.executable, "-m", "django", "pgpubsub", "parked"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "COLUMNS"}
            | {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PGDATABASE": connection.settings_dict["NAME"],
            },
            stdout=theirs,
            check=True,
            timeout=60,
        )
        lines = os.read(ours, 10_000).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert max(map(len, lines)) == 120
    assert lines[2].endswith("…")
    output = io.StringIO()
    call_command("pgpubsub", "parked", stdout=output)
    assert max(map(len, output.getvalue().splitlines())) == 80
