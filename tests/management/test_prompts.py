"""Selection and confirmation, before a command changes everything or takes something away."""

from __future__ import annotations

import io
import os
import pty
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pgpubsub_sql.models import Notification
from tests.management.support import run
from tests.stored import NAME, park


@pytest.mark.parametrize("word", ["replay", "retry", "discard"])
def test_everything_is_changed_only_with_all(db: None, word: str) -> None:
    """F56: without a channel, every channel was changed."""
    park()
    with pytest.raises(CommandError, match=r"is selected\. Name channels, or select by --id"):
        run(word)
    with pytest.raises(CommandError, match="--all selects everything: leave out either"):
        run(word, NAME, "--all")
    assert Notification.objects.parked().count() == 1


QUESTIONS = {
    "discard": (["discard", NAME], "Delete 2 messages for good?"),
    "discard by id": (["discard", "--id", "ID"], "Delete 1 message for good?"),
    "replay all": (["replay", "--all"], "Handle 2 messages again?"),
    "move": (["move", NAME, "app.Step"], "Move 2 messages from app.Job to app.Step?"),
}


@pytest.fixture(params=QUESTIONS)
def asking(request: pytest.FixtureRequest, db: None) -> tuple[list[str], str]:
    """A command that asks, and its question."""
    argv, question = QUESTIONS[request.param]
    rows = [park(), park()]
    return [str(rows[0].pk) if one == "ID" else one for one in argv], question


def everything() -> list[Any]:
    return list(Notification.objects.values_list("pk", "channel", "available_at"))


def test_answering_no_changes_nothing(
    asking: tuple[list[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F56: ``discard`` did not ask."""
    argv, question = asking
    before = everything()
    ours, theirs = pty.openpty()
    with open(ours, "w") as keyboard, open(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        print("n", file=keyboard, flush=True)
        error = io.StringIO()
        with pytest.raises(CommandError, match=r"Nothing was changed\."):
            call_command("pgpubsub", *argv, stderr=error)
        assert error.getvalue() == f"{question} [y/N] "
        assert everything() == before
        print("y", file=keyboard, flush=True)
        run(*argv)
        assert everything() != before


def test_without_a_terminal_the_command_fails_unless_noinput(
    asking: tuple[list[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F56: it does not wait for a standard input that never ends."""
    argv, question = asking
    before = everything()
    reading, writing = os.pipe()
    with open(reading) as pipe, open(writing, "w"):
        monkeypatch.setattr(sys, "stdin", pipe)
        with pytest.raises(CommandError) as refused:
            run(*argv)
        assert str(refused.value).startswith(question)
        assert "add --noinput" in str(refused.value)
        assert everything() == before
        run(*argv, "--noinput")
        assert everything() != before
