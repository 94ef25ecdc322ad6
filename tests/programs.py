"""PostgreSQL's client programs."""

from __future__ import annotations

import os
import shutil

import pytest

from pgpubsub_sql.embedded.binaries import wheel_directories


def client(name: str) -> str:
    """Return the path of a program; skip the test if there is none."""
    path = os.pathsep.join([*map(str, wheel_directories()), os.environ["PATH"]])
    return shutil.which(name, path=path) or pytest.skip(f"There is no {name}.")
