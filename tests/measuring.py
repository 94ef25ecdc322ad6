"""Lets ``make coverage`` see what runs without site-packages, and so would not measure itself."""

from __future__ import annotations

import os
from pathlib import Path

import coverage

from pgpubsub_sql.embedded import protocol

IS_ON = "COVERAGE_PROCESS_CONFIG" in os.environ

# Appended and taken away again: nothing else that is installed there can be imported.
_START = f"""
import sys
sys.path.append({str(Path(coverage.__file__).parents[1])!r})
import coverage
sys.path.pop()
coverage.process_startup()
"""


def measure_keepers() -> None:
    """Have the keepers of embedded servers start with what measures them."""
    if IS_ON:
        protocol.KEEPER_PROGRAM = _START + protocol.KEEPER_PROGRAM
