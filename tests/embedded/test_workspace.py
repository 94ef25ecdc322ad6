"""Where a server's socket is, and as whom it runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgpubsub_sql.embedded.workspace import directory_for_sockets
from tests.embedded.support import DEADLINE, PARENT, exists, needs_root, running, words


@needs_root
def test_an_unprivileged_user_can_run_a_server(bare: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    python = _python_of_everybody(who)
    with running([python, "-S", "-c", PARENT], bare, **who) as parent:
        host, pid = words(parent)
        assert Path(host).stat().st_uid == nobody.pw_uid
        assert parent.communicate("", timeout=DEADLINE) == ("", "")
        assert parent.returncode == 0
        assert not exists(int(pid))
        assert not Path(host).exists()


def _python_of_everybody(who: dict[str, Any]) -> str:
    """An interpreter that an ordinary user can run; the tests' own may be below /root."""
    program = "import sys; sys.exit(sys.version_info < (3, 11))"
    path = os.environ["PATH"].split(os.pathsep)
    names = (f"python3.{minor}" for minor in range(sys.version_info.minor, 10, -1))
    found = (shutil.which(name, path=directory) for name in names for directory in path)
    for python in (sys.executable, *filter(None, found)):
        with contextlib.suppress(PermissionError):
            if subprocess.run([python, "-S", "-c", program], cwd="/", **who).returncode == 0:
                return python
    pytest.skip("no Python >= 3.11 on PATH that an ordinary user can run")


def test_the_socket_is_where_the_server_user_can_reach_it_and_its_path_fits(
    place: Path,
) -> None:
    closed, long = place / "closed", place / ("x" * 60)
    closed.mkdir(mode=0o700)
    long.mkdir()
    nobody = pwd.getpwnam("nobody")

    assert directory_for_sockets(place, 5432, nobody) == place
    assert directory_for_sockets(closed, 5432, None) == closed
    assert directory_for_sockets(closed, 5432, nobody) == Path("/tmp")
    assert directory_for_sockets(long, 5432, None) == Path("/tmp")
