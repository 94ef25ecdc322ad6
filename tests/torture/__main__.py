"""``python -m tests.torture 120``: torture for so many seconds, and a table of what came of it."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import django

from pgpubsub_sql.embedded import Server

SEED = "TORTURE_SEED"
"""The environment variable that has decisions made as in the run that printed it."""


def main(seconds: float) -> int:
    """Run, print, and return the exit status."""
    seed = os.environ.get(SEED) or str(random.randrange(10**6))
    # A crash of the server is a part of it.
    with (
        Server(settings={"fsync": "on"}) as server,
        tempfile.TemporaryDirectory(prefix="torture-") as directory,
    ):
        os.environ.update(server.environment(), DJANGO_SETTINGS_MODULE="tests.torture.settings")
        django.setup()
        from tests.torture.story import run

        return run(server, Path(directory), seed, seconds)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
