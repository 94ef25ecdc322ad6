"""The documentation does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.embedded.binaries import wheel_directories
from pgpubsub_sql.notify import _OPTIONS
from tests.conftest import ROOT
from tests.preloaded import preloaded_python
from tests.walkthrough import Walk, blocks, continued_by

pytestmark = pytest.mark.timeout(300)

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "_build" not in page.parts
)
NOTHING = "nothing"


class Library:
    """Walks pages, each where the one that it continues has ended.

    What a page leaves behind, files and database, is put aside for all that continue it.
    """

    def __init__(self, server: Server, directory: Path, python: Path) -> None:
        self.python = python
        # The wheel has psql and pg_dump, should another installation be the server's.
        path = [*map(str, (server.bin_dir, *wheel_directories())), os.environ["PATH"]]
        clients = {"PATH": os.pathsep.join(path)}
        self.environment = os.environ | server.environment() | clients
        self.shelf = directory
        self.project = directory / "project"
        self.continued = {base for page in PAGES if (base := continued_by(page))}
        self._kept = {NOTHING: "template0"}
        self._kept_files(NOTHING).mkdir()

    def walk(self, page: str) -> None:
        """Do what *page* says, and first what it continues."""
        if page in self._kept:
            return
        base = continued_by(page) or NOTHING
        self.walk(base)
        self._fetch(base)
        Walk(self.project, self.environment, self.python).follow(blocks(page))
        if page in self.continued:
            self._keep(page)

    def _fetch(self, page: str) -> None:
        shutil.rmtree(self.project, ignore_errors=True)
        shutil.copytree(self._kept_files(page), self.project)
        self._sql("DROP DATABASE postgres WITH (FORCE)")
        self._sql(f"CREATE DATABASE postgres TEMPLATE {self._kept[page]}")

    def _keep(self, page: str) -> None:
        self._kept[page] = f"page{len(self._kept)}"
        shutil.copytree(self.project, self._kept_files(page))
        self._sql(f"CREATE DATABASE {self._kept[page]} TEMPLATE postgres")

    def _kept_files(self, page: str) -> Path:
        return self.shelf / self._kept[page]

    def _sql(self, statement: str) -> None:
        psql = ["psql", "--no-psqlrc", "--quiet", "--dbname=template1", "--command", statement]
        subprocess.run(psql, env=self.environment, check=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A server of its own, since what a page leaves behind is put back and forth in it.

    It is that of the wheel wherever there is one, as others come without psql and pg_dump.
    """
    settings = {"fsync": "off", "max_prepared_transactions": "1"}
    with Server(bin_dir=next(iter(wheel_directories()), None), settings=settings) as server:
        directory = tmp_path_factory.mktemp("library")
        with preloaded_python(tmp_path_factory.mktemp("bin"), dict(os.environ)) as python:
            yield Library(server, directory, python)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_works_as_written(
    page: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P24: a channel on a model of another app, for one; and what comes before it."""
    monkeypatch.chdir(ROOT)
    library.walk(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_found(page: str) -> None:
    """A block in a list, in another style of fence or indented would go untried."""
    text = (ROOT / page).read_text(encoding="utf-8")
    directives = re.findall(r"^```{(.*)}", text, re.MULTILINE)
    assert set(directives) <= {"eval-rst"}
    fences = re.findall(r"^[ >]*(?:`{3,}|~{3,})", text, re.MULTILINE)
    assert fences == ["```"] * 2 * (len(blocks(str(ROOT / page))) + len(directives))
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\n\n(?: {4}|\t).*", prose) == []


def test_the_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_sending_from_django_comes_first() -> None:
    """F61: it was documented nowhere, nor how to install from a clone."""
    page = "docs/howto/send-from-django.md"
    assert re.search(r"^\* How to \[.*?\]\((.*?)\)", README, re.MULTILINE)[1] == page
    assert "[embedded]'`" in README.partition("From a clone of this repository: ")[2]
    text = (ROOT / page).read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(listed) == set(_OPTIONS)
    for name in ("anotify", "notify", "notify_many", "notification_context"):
        assert f"{name}(" in text
