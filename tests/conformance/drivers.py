"""Either driver for a process that is started, whichever of them this one uses.

Django takes psycopg 3 wherever it can import it, else psycopg2, which is always installed.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

BESIDE = Path(sys.prefix, "psycopg3")
"""Where ``make`` puts psycopg 3 if it is not to be imported here."""
PATHS = {
    "psycopg2": Path(__file__).with_name("without_psycopg3"),
    "psycopg": None if find_spec("psycopg") else BESIDE,
}
"""By the name of the module that Django is to use: what to put before all that is installed."""


def is_installed(driver: str) -> bool:
    """Whether *driver* is there to be used."""
    path = PATHS[driver]
    return path is None or path.exists()


def environment(driver: str) -> dict[str, str]:
    """Return the variables with which a process uses *driver*."""
    paths = [PATHS[driver], os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(str(path) for path in paths if path)}
