"""The environment of each contestant: made once from PyPI, by pinned versions, and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".benchmarks"
OURS = ""
"""The environment that runs the benchmark."""
DJANGO = "Django==5.2.19"
PSYCOPG2 = "psycopg2-binary==2.9.13"
PSYCOPG3 = "psycopg[binary,pool]==3.3.9"
NEEDS = (DJANGO, "msgspec==0.22.0", "sqlparse==0.6.1")
"""What pgpubsub_sql needs."""
PINS = {
    "psycopg": (*NEEDS, PSYCOPG3),
    "psycopg2": (*NEEDS, PSYCOPG2),
    "django-pgpubsub": ("django-pgpubsub==1.3.1", "django-pgtrigger==4.17.0", DJANGO, PSYCOPG2),
    "django-tasks-db": (
        "django-tasks-db[compat]==0.13.0",
        "django-tasks==0.12.0",
        DJANGO,
        PSYCOPG3,
    ),
    "procrastinate": ("procrastinate==3.10.0", PSYCOPG3),
    "pgqueuer": ("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.22.1", PSYCOPG3),
    "pgmq": ("pgmq==1.1.4", PSYCOPG2),
}
"""What is installed into each environment; pgpubsub_sql itself comes from the working tree."""


def python_of(name: str) -> str:
    """Return the Python of an environment, which is made if need be."""
    if name == OURS:
        return sys.executable
    directory, pins = CACHE / name, PINS[name]
    python, complete = directory / "bin" / "python", directory / "installed.txt"
    if not complete.exists() or complete.read_text() != "\n".join(pins):
        print(f"Making the environment of {name}, once", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", *pins]
        subprocess.run(pip, check=True)
        complete.write_text("\n".join(pins))
    return str(python)
