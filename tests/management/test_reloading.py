"""When ``listen`` starts anew after a change of a file; that it does is tested with processes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pgpubsub_sql.management.commands import listen


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been started by commands: neither waits for anything."""
    found: list[str] = []

    class Reloader:
        def run(self) -> int:
            found.append("reloader")
            return 0

    def prepared(command: object, *arguments: Any) -> None:
        found.append("workers")

    monkeypatch.setattr(listen, "Reloader", Reloader)
    monkeypatch.setattr(listen.Command, "_prepared", prepared)
    return found


def run(*arguments: str) -> None:
    """Run the command as ``manage.py`` does, except that it does not catch errors."""
    command = listen.Command()
    command._called_from_command_line = True
    with contextlib.suppress(SystemExit):
        call_command(command, *arguments, skip_checks=True)


@pytest.mark.parametrize(
    ("debug", "arguments", "expected"),
    [
        (True, [], "reloader"),
        (True, ["--processes", "2"], "reloader"),
        (False, ["--reload"], "reloader"),
        (False, [], "workers"),
        (True, ["--no-reload"], "workers"),
        (True, ["--worker"], "workers"),
        (True, ["--worker", "--no-reload"], "workers"),
        (True, ["--drain"], "workers"),
    ],
)
def test_debug_and_options_decide(
    settings: Any, started: list[str], debug: bool, arguments: list[str], expected: str
) -> None:
    settings.DEBUG = debug
    run(*arguments)
    assert started == [expected]


def test_code_that_calls_the_command_gets_what_it_has_called(
    settings: Any, started: list[str]
) -> None:
    settings.DEBUG = True
    call_command("listen", skip_checks=True)
    assert started == ["workers"]


@pytest.mark.parametrize("word", ["--worker", "--drain"])
def test_what_nothing_replaces_is_not_reloaded(started: list[str], word: str) -> None:
    with pytest.raises(CommandError, match=f"^{word} .*: leave out --reload"):
        run("--reload", word)
    assert not started


def test_wrong_options_end_it_rather_than_wait_for_a_change(started: list[str]) -> None:
    with pytest.raises(CommandError, match=r"No channel is called 'app\.Jobb'"):
        run("--reload", "--channels", "app.Jobb")
    assert not started
