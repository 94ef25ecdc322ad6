"""``python -m tests.moving.suite DIRECTORY``: run the tests of django-pgpubsub 1.3.1 against this.

They are copied from the installed package, and rewritten by ``pgpubsub_sql.moving``. Those in
DIFFERENT must fail, and no others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pgpubsub_sql.embedded import Server
from pgpubsub_sql.moving.__main__ import main as move

ROOT = Path(__file__).resolve().parent.parent.parent
ADAPTERS = Path(__file__).with_name("adapters.py")

DIFFERENT = {
    "test_process_notifications_handles_non_json_payloads": (
        "a payload that is a JSON string is parked: adopt parses those of django-pgpubsub"
    ),
    "test_author_bulk_insert_notify": "deliberate: one NOTIFY for all rows of a transaction",
    "test_recover_notifications_after_exception": "deliberate: a payload needs no app",
    "test_recover_multiple_notifications_after_exception": "deliberate: a payload needs no app",
    "test_persistent_notification_has_a_db_version": "deliberate: no db_version, but created_at",
    "test_notification_context_is_stored_in_payload[None-None]": (
        "deliberate: without a setting, a context ends with its transaction"
    ),
    "test_notification_context_is_stored_in_payload[None-default]": (
        "deliberate: without a setting, a context ends with its transaction"
    ),
    "test_deserialize_post_trigger_channel": "a channel needs a model, not an annotation of one",
}
"""Tests that fail, and why."""

REPLACED = {
    "pgpubsub.tests": "theirs",
    "pgpubsub.listen ": "adapters ",
    "pgpubsub.listen.": "adapters.",
    "    name = 'theirs'": "    name = 'theirs'\n    label = 'tests'",
    "    return listen_to_channels()": (
        "    heard = listen_to_channels()\n    yield heard\n    heard.close()"
    ),
    "    yield\n    pgpubsub.set_notification_context({})": "    yield\n    connection.close()",
}
"""What is changed in their tests before the program: names, and fixtures that leave something."""

SETTINGS = """
import os
SECRET_KEY = "of their tests"
USE_TZ = False
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "pgtrigger", "pgpubsub", "theirs",
]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"],
}}
PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT = False
"""

CONFTEST = """
import pytest
from tests.moving.suite import DIFFERENT

def pytest_collection_modifyitems(items):
    for item in items:
        if reason := DIFFERENT.get(item.name):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
"""


def main() -> int:
    """Copy, rewrite and run; return the exit status of pytest."""
    parser = argparse.ArgumentParser(prog="python -m tests.moving.suite")
    parser.add_argument("directory", type=Path, help="where they are copied")
    directory: Path = parser.parse_args().directory.absolute()
    copy(directory)
    with Server(settings={"fsync": "off"}) as server:
        environment = {
            **os.environ,
            **server.environment(),
            "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": "settings",
        }
        run = [sys.executable, "-m"]
        subprocess.run([*run, "django", "makemigrations", "-v0"], env=environment, check=True)
        tests = [*run, "pytest", "--rootdir", str(directory), "-c", "/dev/null", "-rxXf", "-q"]
        return subprocess.run(
            [*tests, "-p", "no:cacheprovider", str(directory / "theirs")],
            env=environment,
            cwd=directory,
            check=False,
        ).returncode


def copy(directory: Path) -> None:
    """Copy their tests to *directory*, as an app of the same label, and rewrite them."""
    spec = find_spec("pgpubsub")
    if spec is None or spec.origin is None:
        sys.exit("Run: pip install django-pgpubsub==1.3.1")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(Path(spec.origin).with_name("tests"), directory / "theirs")
    for file in (directory / "theirs").rglob("*.py"):
        source = file.read_text()
        for old, new in REPLACED.items():
            source = source.replace(old, new)
        file.write_text(source)
    (directory / "settings.py").write_text(SETTINGS)
    (directory / "conftest.py").write_text(CONFTEST)
    shutil.copy(ADAPTERS, directory)
    move([str(directory / "theirs"), str(directory / "settings.py"), "--write"])


if __name__ == "__main__":
    sys.exit(main())
