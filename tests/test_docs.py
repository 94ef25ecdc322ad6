"""The documentation does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from django.db import connection

from pgpubsub_sql.embedded import Server
from tests.conftest import ROOT
from tests.walkthrough import blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quickstart_and_what_continues_it_work_as_written() -> None:
    """P24: from nothing to handled notifications, and a channel on a model of another app."""
    with Server(settings={"fsync": "off"}) as server:
        path = os.pathsep.join([str(server.bin_dir), os.environ["PATH"]])
        subprocess.run(
            [
                sys.executable,
                "tests/walkthrough.py",
                "README.md#Quickstart",
                "docs/howto/other-apps-models.md",
            ],
            cwd=ROOT,
            env=os.environ | server.environment() | {"PATH": path, "PYTHONPATH": str(ROOT)},
            check=True,
        )


def test_the_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_grants_of_the_readme_let_a_role_send(db: None) -> None:
    """The statement names functions that exist, and is enough for both SQL and notify()."""
    ((_, grant),) = [block for block in blocks("README.md") if block[0] == "sql"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE app_role")
        cursor.execute(grant)
        cursor.execute("SET LOCAL ROLE app_role")
        cursor.execute("SELECT pgpubsub_notify('blog.Any', '{}')")
        cursor.execute("SELECT pgpubsub_store_v1('blog.Any', '{}', NULL, NULL, NULL)")
        cursor.execute("SELECT pgpubsub_publish_v1('blog.Any', '{}')")
        cursor.execute("RESET ROLE")
        cursor.execute("SELECT count(*) FROM pgpubsub_sql_notification")
        assert cursor.fetchone() == (2,)
