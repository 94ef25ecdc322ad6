"""Where logs and output of a worker process go, however logging is configured."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pgpubsub_sql import notify
from tests.app.channels import Shout
from tests.conftest import LISTEN, Listen, eventually
from tests.delivery.sending import jobs
from tests.processes.support import EVERY_WAY

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Listen]


def quiet(*arguments: str) -> list[str]:
    """The command as users give it: the tests' own asks for a log level."""
    return [*LISTEN[:4], *arguments]


CONFIGURATIONS = {
    "none": "",
    "the existing are disabled": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    """,
    "configured by hand": """
        import logging.config
        LOGGING_CONFIG = None
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        })
    """,
    "configured late": """
        INSTALLED_APPS = [*INSTALLED_APPS, "late.Late"]
    """,
    "warnings": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler", "level": "WARNING"}},
            "root": {"handlers": ["console"]},
        }
    """,
    "Django alone": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "loggers": {"django": {"handlers": ["console"], "level": "INFO"}},
        }
    """,
    "ours alone": """
        LOGGING = {
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "loggers": {"pgpubsub_sql": {"handlers": ["console"], "level": "INFO"}},
        }
    """,
    "JSON": """
        LOGGING = {
            "version": 1,
            "formatters": {"json": {"()": "pgpubsub_sql.logs.JSONFormatter"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    """,
}
LATE = """
import logging.config

from django.apps import AppConfig


class Late(AppConfig):
    name = "late"

    def ready(self):
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        })
"""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_failures_are_logged_however_logging_is_configured(
    listen: Start, tmp_path: Path, name: str
) -> None:
    """F32: LOGGING disables the loggers that exist already, unless it says otherwise."""
    project = textwrap.dedent(CONFIGURATIONS[name])
    (tmp_path / "project.py").write_text(f"from tests.settings import *\n{project}")
    (tmp_path / "late.py").write_text(LATE)
    options = {
        "DJANGO_SETTINGS_MODULE": "project",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    both = [
        listen("--channels", "app.Shout", *way, command=quiet(), **options)
        for way in ([], ["--worker"])
    ]
    eventually(lambda: heard_by_all(both))
    for one in both:
        told = "Starting to listen" if name == "warnings" else "Listening to"
        assert one.log.count(told) == 1
        assert one.stop() == 0
    assert name == "warnings" or "Worker 0 started" in both[0].log


def heard_by_all(listening: list[Listen]) -> bool:
    """Send a message until each of them has told of its failure."""
    notify(Shout(number=1, mood="bad"))
    assert all(one.process.poll() is None for one in listening), [one.log for one in listening]
    return all("this listener is in a bad mood" in one.log for one in listening)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_output_of_a_listener_is_flushed_at_once(listen: Start, way: list[str]) -> None:
    """F33: also where it goes to a file or a pipe, to which Python writes blocks."""
    listener = listen("--channels", "app.Job", *way, PYTHONUNBUFFERED="").ready()
    jobs("print")
    eventually(lambda: "a word\n" in listener.log)
    assert listener.process.poll() is None
