"""An environment for each package, made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path

from tests.ecosystem.packages import ROOT, project_name


def environment(directory: Path, requirements: Iterable[str]) -> Path:
    """Return the Python of an environment that has what we need, psycopg 3 and *requirements*."""
    wanted = [*our_requirements(), "psycopg[binary]", *requirements]
    python, installed = directory / "bin" / "python", directory / "installed.txt"
    if not installed.exists() or installed.read_text() != "\n".join(wanted):
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq"]
        subprocess.run([*pip, "--no-compile", *wanted], check=True)
        installed.write_text("\n".join(wanted))
    return python


def our_requirements() -> list[str]:
    """Return what an installation of ours brings along."""
    requirements: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    return requirements


def versions(python: Path, requirements: Iterable[str]) -> str:
    """Return what is installed of *requirements*, as ``newrelic 14.1``."""
    names = [project_name(requirement) for requirement in requirements]
    code = (
        "import sys; from importlib.metadata import version;"
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    command = [str(python), "-c", code, *names]
    return subprocess.check_output(command, text=True).strip()
