"""The log as JSON, and by whom it was written."""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pgpubsub_sql import notify
from pgpubsub_sql.logs import JSONFormatter
from tests.app.channels import Job
from tests.conftest import Listen, eventually
from tests.delivery.sending import jobs
from tests.ledger import backends, numbers

Start = Callable[..., Listen]


def fail() -> None:
    raise RuntimeError("a mood")


def formatted(message: str = "said", *arguments: Any, **options: Any) -> dict[str, Any]:
    logger = logging.Logger("some.logger")
    record = logger.makeRecord(
        "some.logger",
        logging.WARNING,
        "file",
        1,
        message,
        arguments,
        options.get("exc_info"),
        extra=options.get("extra"),
        sinfo=options.get("sinfo"),
    )
    line = JSONFormatter().format(record)
    assert line.isascii()
    assert "\n" not in line
    read: dict[str, Any] = json.loads(line, parse_constant=lambda name: fail())
    return read


def test_a_line_is_a_json_object_of_the_records_attributes() -> None:
    line = formatted("%s of %s", 1, "ä\n\ud800", extra={"channel": "app.Job", "duration": 0.5})
    assert list(line)[:6] == ["time", "level", "logger", "worker", "process", "message"]
    assert line["message"] == "1 of ä\n\ud800"
    assert (line["level"], line["logger"]) == ("warning", "some.logger")
    assert (line["channel"], line["duration"]) == ("app.Job", 0.5)
    assert "exception" not in line
    moment = datetime.datetime.fromisoformat(line["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(minutes=1)


def test_an_exception_is_a_string() -> None:
    try:
        fail()
    except RuntimeError:
        line = formatted(exc_info=sys.exc_info(), sinfo="Stack (most recent call last): …")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "RuntimeError: a mood\nStack" in line["exception"]


def endless() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, None),
        ({"a": [1]}, {"a": [1]}),
        (float("nan"), "nan"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        ({1j: 2}, "{1j: 2}"),
        (endless(), "[[...]]"),
        ("\ud800", "\ud800"),
    ],
)
def test_any_extra_value_is_written(value: Any, words: Any) -> None:
    assert formatted(extra={"told": value})["told"] == words


def test_extra_does_not_overwrite_our_keys() -> None:
    line = formatted(extra={"time": "mine", "level": "mine", "worker": "mine"})
    assert "mine" not in line.values()


def lines(listen: Listen) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listen.log.splitlines()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_all_that_workers_log_is_json(listen: Start, method: str) -> None:
    """P17: options reach the workers, and what is not about them is JSON as well."""
    arguments = ("--json-logs", "--worker-start-method", method, "--channels", "app.Job")
    worker = listen(*arguments).ready()
    jobs("good", "bad", "die")
    eventually(lambda: "WorkerDied" in worker.log)
    assert worker.stop() == 0
    failed = [one for one in lines(worker) if one.get("exception", "").endswith("bad mood")]
    assert failed[0]["channel"] == "app.Job"
    assert failed[0]["attempt"] == 1
    assert failed[0]["level"] == "error"
    assert failed[0]["listener"] == "tests.app.listeners.do_job"
    assert failed[0]["worker"] == "listen-0"
    assert {one["worker"] for one in lines(worker)} == {"listen", "listen-0"}


@pytest.mark.django_db(transaction=True)
def test_workers_have_a_name(listen: Start) -> None:
    worker = listen("--name", "mail", "--processes", "2", "--channels", "app.Job").ready(2)
    for number in (0, 1):
        assert re.search(rf" INFO mail-{number}\[\d+\] Listening to app.Job$", worker.log, re.M)
        assert len(backends(f"pgpubsub_sql listen (mail-{number})")) == 1
    assert re.search(r" INFO mail\[\d+\] Worker 0 started", worker.log)
    notify(Job(number=1))
    eventually(lambda: numbers("do_job") == [1])


@pytest.mark.django_db(transaction=True)
def test_a_worker_on_its_own_has_a_name(listen: Start) -> None:
    worker = listen("--name", "mail", "--worker", "--channels", "app.Job").ready()
    assert re.search(r" INFO mail\[\d+\] Listening to app.Job$", worker.log, re.M)
    assert len(backends("pgpubsub_sql listen (mail)")) == 1
