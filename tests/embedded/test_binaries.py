"""Where PostgreSQL's programs are found, and when they are copied."""

from __future__ import annotations

import pwd
import shutil
import sys
from pathlib import Path

import pytest

from pgpubsub_sql.embedded import Server, find_binaries
from pgpubsub_sql.embedded.binaries import BINARIES_VARIABLE, WHEEL, copy_installation
from pgpubsub_sql.errors import ServerError
from tests.embedded.support import (
    ask,
    bin_in,
    installation,
    needs_linux,
    needs_root,
    snapshot,
    wheel_bin,
)


def test_binaries_are_looked_up_in_the_variable_the_wheel_the_system_and_the_path(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = installation(place / "named")
    wheel = installation(place / WHEEL / "pginstall18" / "bin")
    installation(place / WHEEL / "pginstall" / "bin")
    system = installation(place / "system" / "17" / "bin")
    installation(place / "system" / "9.6" / "bin")
    real = installation(place / "real")
    (place / "links").mkdir()
    (place / "links" / "postgres").symlink_to(real / "postgres")

    monkeypatch.setattr(sys, "path", [str(place)])
    monkeypatch.setattr("pgpubsub_sql.embedded.binaries.SYSTEM_INSTALLATIONS", place / "system")
    monkeypatch.setenv("PATH", str(place / "links"))
    monkeypatch.setenv(BINARIES_VARIABLE, str(named))

    assert find_binaries() == named
    monkeypatch.delenv(BINARIES_VARIABLE)
    assert find_binaries() == wheel
    shutil.rmtree(place / WHEEL / "pginstall18")
    assert find_binaries() == place / WHEEL / "pginstall" / "bin"
    shutil.rmtree(place / WHEEL)
    assert find_binaries() == system
    shutil.rmtree(place / "system")
    assert find_binaries() == real
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match=r"pip install 'pgpubsub-sql\[embedded\]'"):
        find_binaries()


def test_a_variable_that_names_no_binaries_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BINARIES_VARIABLE, str(place))
    with pytest.raises(ServerError, match=f"{BINARIES_VARIABLE}={place} holds no"):
        find_binaries()


def test_the_wheel_is_found_and_not_imported() -> None:
    assert find_binaries() == wheel_bin()
    assert find_binaries().parent.name == "pginstall18"
    assert WHEEL not in sys.modules


@needs_root
@needs_linux
def test_binaries_that_the_server_user_cannot_reach_are_copied(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    copy_installation(wheel_bin().parent, private)
    binaries = bin_in(private)
    (binaries / "postgres").chmod(0o700)
    before = snapshot(private)
    with Server(bin_dir=binaries) as server:
        assert ask(server, "SELECT 1") == 1
        assert Path(server.host) in Path(f"/proc/{server.pid}/exe").resolve().parents
        assert Path(server.host).stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert server.bin_dir == binaries
    assert snapshot(private) == before
