"""``manage.py pgpubsub send``: a message by hand, with clear errors."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.utils import timezone

from pgpubsub_sql.models import Notification
from pgpubsub_sql.testing import PubSub
from tests.app.channels import Place, Shout
from tests.management.support import run, run_json

pytestmark = pytest.mark.django_db


def stored() -> Any:
    return Notification.objects.get().payload


def test_text_becomes_the_declared_type() -> None:
    output = run("send", "app.Job", "number=7", "mood=good")
    assert stored() == {"number": 7, "mood": "good"}
    assert output.splitlines() == [
        'Stored on app.Job: {"number": 7, "mood": "good"}',
        "It waits, as no worker listens. To start one: python manage.py listen",
    ]


def test_json_and_module_paths_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    run("send", "tests.app.channels.Job", "number:=8", "mood=a=b")
    assert stored() == {"number": 8, "mood": "a=b"}
    Notification.objects.all().delete()
    monkeypatch.setattr("sys.stdin", io.StringIO('{"number": 9}'))
    run("send", "app.Job", "--payload", "-")
    assert stored()["number"] == 9


def test_an_ephemeral_message_is_sent(pubsub: PubSub) -> None:
    places = '[{"name": "here", "position": [1, 2]}]'
    with pubsub.capture():
        output = run_json(
            "send", "app.Shout", "number=3", "at=2026-01-31T10:00Z", f"places:={places}"
        )
    assert output["payload"]["number"] == 3
    assert output["payload"]["at"] == "2026-01-31T10:00:00Z"
    assert output["problems"] == [
        "Nobody has heard it, as no worker listens. Start one first: python manage.py listen"
    ]
    pubsub.assert_sent(Shout, number=3, places=[Place("here", (1.0, 2.0))])


@pytest.mark.parametrize(
    ("option", "due"),
    [
        (["--delay", "2h"], lambda: timezone.now() + timedelta(hours=2)),
        (["--at", "2099-01-31T10:00"], lambda: timezone.make_aware(datetime(2099, 1, 31, 10))),
        (["--at", "2099-01-31T10:00+00:00"], lambda: datetime.fromisoformat("2099-01-31T10:00Z")),
    ],
)
def test_a_durable_message_may_be_handled_later(option: list[str], due: Any) -> None:
    run("send", "app.Job", "number=1", *option)
    assert abs(Notification.objects.get().available_at - due()) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["app.Jobb"], r"No channel is called 'app\.Jobb'. Did you mean 'app\.Job'\?"),
        (["app.Job"], r"app\.Job: missing 'number'\. It takes \{number: int, .*\}"),
        (["app.Job", "nummer=1"], r"app\.Job has no field 'nummer': did you mean 'number'\?"),
        (["app.Job", "number=one"], r"app\.Job: .*`int`.*at `\$\.number`.*It takes \{number: int"),
        (["app.Job", "number"], r"'number' names no field: write FIELD=TEXT or FIELD:=JSON\."),
        (["app.Job", "=1"], r"'=1' names no field"),
        (["app.Job", "number:=[1"], r"number: \[1 is not JSON: "),
        (["app.Job", "--payload", "[1]"], r"--payload: \[1\] is not a JSON object"),
        (["app.Job", "number=1", "--payload", "{}"], "--payload has all fields"),
        (["app.Job", "number=1", "--at", "noon"], r"'noon' is not a time: write it as 2026-01-31T"),
        (["app.Job", "number=1", "--at", "2026-02-31T10:00"], "'2026-02-31T10:00' is not a time"),
        (["app.Job", "number=1", "--delay", "2"], "'2' is not a duration"),
        (["app.Shout", "number=3", "--delay", "2h"], r"app\.Shout is ephemeral: .*no delay"),
        (["app.ItemChannel"], r"app\.ItemChannel only the database sends, when rows of app\.Item"),
    ],
)
def test_mistakes_are_named_with_their_remedy(arguments: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run("send", *arguments)
    assert not Notification.objects.exists()
