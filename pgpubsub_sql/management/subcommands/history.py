"""``manage.py pgpubsub history``, and ``replay --handled``: messages that were handled."""

from __future__ import annotations

import datetime
import json
import shlex
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.utils import timezone

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.management.base import Options, Row, Subcommand, positive
from pgpubsub_sql.management.output import (
    output_width,
    pluralize,
    progress_bar,
    table,
    write_json,
)
from pgpubsub_sql.management.prompts import confirm
from pgpubsub_sql.management.selection import (
    add_channels,
    add_subscription,
    duration,
    resolve_channels,
    spell_duration,
)
from pgpubsub_sql.management.subcommands.messages import ago
from pgpubsub_sql.management.subcommands.sending import moment
from pgpubsub_sql.models import Handled, Outcome
from pgpubsub_sql.relay.settings import relay_settings
from pgpubsub_sql.sql.own_tables import RELAY
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.sql.readiness import check_role
from pgpubsub_sql.subscriptions import Lane

_COLUMNS = (
    *("id", "channel", "subscription", "message", "created_at", "handled_at", "kept_until"),
    *("outcome", "reason", "attempts", "duration", "expires_at", "key", "payload"),
)
_AGE = ExpressionWrapper(Now() - F("handled_at"), output_field=DurationField())
_FOREIGN = ("id", "older_than", "error")
"""Options of ``replay`` that are about parked messages."""
_OWN = ("since", "until", "rate", "after", "same_ids")
"""Options of ``replay`` that are about the history."""
_SLACK = datetime.timedelta(minutes=1)
"""How much older --since may be: time has passed since it was given. Receivers know a day more."""


def history(command: BaseCommand, options: Options) -> None:
    """List messages that were handled, of channels that keep them (keep), the newest first.

    It shows when and after how many failed attempts each was handled, how long its listeners took
    if that was 10 ms or more, and whether it was discarded or had expired instead.

      manage.py pgpubsub history blog.AuthorChannel --since 2h
      manage.py pgpubsub history --outcome discarded --json
    """
    rows = Handled.objects.using(options["database"])
    if options["channels"]:
        rows = rows.filter(channel__in=_channels(options))
    if options["subscription"] is not None:
        rows = rows.filter(subscription=options["subscription"])
    if options["outcome"]:
        rows = rows.with_outcome(options["outcome"])
    limit = max(0, options["limit"])
    rows = _within(rows, options).newest()
    found = list(rows.annotate(age=_AGE).values(*_COLUMNS, "age")[: limit + 1])
    shown, is_cut = found[:limit], len(found) > limit
    if options["json"]:
        write_json(command, {"messages": shown, "more": is_cut})
        return
    lines = [table([_brief(row) for row in shown], output_width(command))] if shown else []
    if is_cut:
        lines.append(f"The newest {limit} are shown; --limit shows more.")
    command.stdout.write("\n".join(lines) or _nothing(options))


def replay_handled(command: BaseCommand, options: Options) -> None:
    """Send messages of the history again, as new ones."""
    using, subscription = options["database"], options["subscription"]
    if given := [name for name in _FOREIGN if options[name] not in (None, [])]:
        raise CommandError(
            f"--{given[0].replace('_', '-')} selects messages that are still stored: leave it out, "
            "or leave out --handled."
        )
    if len(options["channels"]) != 1 or options["all"]:
        raise CommandError("Name one channel whose messages to send again.")
    check_role(connections[using], Role.REPLAYER)
    until = options["until"] or timezone.now()
    rows = Handled.objects.using(using).filter(
        channel=_channels(options)[0], outcome=Outcome.HANDLED
    )
    rows = _within(rows, options | {"until": until})
    replay: Callable[..., int] = partial(rows.replay, subscription=subscription)
    if options["same_ids"]:
        _check_remembered(options)
        replay = rows.publish_again
        rows = rows.published()
    count = rows.count_again()
    if options["dry_run"] or not count:
        _tell(command, options, count)
        return
    whom = f" to the subscription {subscription!r}" if subscription else ""
    confirm(command, options, f"Send {pluralize(count, 'message')} again{whom}?")
    progress = _Progress(progress_bar(command, count))
    try:
        sent = replay(rate=options["rate"], after=options["after"], progress=progress)
    except LookupError as error:
        raise CommandError(str(error)) from error
    except BaseException:
        command.stderr.write(_resume(options, until, progress))
        raise
    _tell(command, options, sent)


def _check_remembered(options: Options) -> None:
    """Raise :class:`CommandError` unless receivers know what they have of the selected messages."""
    try:
        known = relay_settings().max_age
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    if options["subscription"] not in (None, RELAY):
        raise CommandError(f"--same-ids is about the subscription {RELAY!r}: name no other one.")
    if options["since"] is None or options["since"] < timezone.now() - known - _SLACK:
        raise CommandError(
            "Receivers know for PGPUBSUB_RELAY['max_age'] what they have, and would handle older "
            f"messages again. Give a later --since, such as {spell_duration(known)}."
        )


class _Progress:
    """Draws a progress bar, and knows how far it is."""

    def __init__(self, draw: Callable[[int], object] | None) -> None:
        self.sent = 0
        self.number: int | None = None
        """Number of the last message that was sent again."""
        self._draw = draw

    def __call__(self, sent: int, number: int) -> None:
        self.sent, self.number = sent, number
        if self._draw:
            self._draw(sent)


def _resume(options: Options, until: datetime.datetime, progress: _Progress) -> str:
    """Say how far it has come, and how to go on."""
    after = options["after"] if progress.number is None else progress.number
    words = ["python manage.py pgpubsub replay --handled", *map(shlex.quote, options["channels"])]
    if options["subscription"] is not None:
        words.append(f"--subscription {shlex.quote(options['subscription'])}")
    if options["same_ids"]:
        words.append("--same-ids")
    if options["since"]:
        words.append(f"--since {options['since'].isoformat()}")
    words.append(f"--until {until.isoformat()}")
    if after is not None:
        words.append(f"--after {after}")
    if options["rate"]:
        words.append(f"--rate {options['rate']}")
    sent = pluralize(progress.sent, "message")
    return f"\nInterrupted after {sent}. To go on, run: {' '.join(words)}"


def time_of(text: str) -> datetime.datetime:
    """Parse a time, or how long ago it was: ``2026-01-31T10:00``, ``2h``."""
    try:
        return timezone.now() - duration(text)
    except ArgumentTypeError:
        pass
    try:
        return moment(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is neither a time, such as 2026-01-31T10:00, nor how long ago it was: 90s, "
            "15m, 2h or 7d."
        ) from None


def add_range(parser: ArgumentParser) -> None:
    """Add ``--since`` and ``--until``."""
    of_what = "a time (2026-01-31T10:00), or how long ago it was (90s, 15m, 2h, 7d)."
    for name, words in {"since": "at or after", "until": "at or before"}.items():
        parser.add_argument(
            f"--{name}",
            type=time_of,
            metavar="TIME",
            help=f"Only messages that were handled {words} TIME: {of_what}",
        )


def add_replaying(parser: ArgumentParser) -> None:
    """Add the options of ``replay`` that are about the history."""
    parser.add_argument(
        "--handled",
        action="store_true",
        help="Send messages again that were handled, of one channel that keeps them. Each is sent "
        "once, as a new message; --subscription says for whom, instead of for all.",
    )
    parser.add_argument(
        "--same-ids",
        action="store_true",
        default=None,
        help="With --handled: have the relay publish them again under the ids that they had, so "
        "that receivers store only what they lack. They must receive it within a day, also where "
        "a stream awaits relay --accept: later, they may handle it twice.",
    )
    add_range(parser)
    parser.add_argument(
        "--rate", type=positive, metavar="N", help="Send at most N messages a second."
    )
    parser.add_argument(
        "--after",
        type=int,
        metavar="NUMBER",
        help="Go on after the message with this number, as an interrupted replay says.",
    )


def require_handled(options: Options) -> None:
    """Raise :class:`CommandError` if an option needs ``--handled``, which was not given."""
    if given := [name for name in _OWN if options[name] is not None]:
        name = given[0].replace("_", "-")
        raise CommandError(f"--{name} is about messages that were handled: add --handled.")


def _add_selection(parser: ArgumentParser) -> None:
    add_channels(parser)
    add_subscription(parser)
    add_range(parser)
    parser.add_argument(
        "--outcome", choices=Outcome.values, help="Only messages of which this has become."
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=50,
        metavar="N",
        help="Show at most N messages (default: 50).",
    )


SUBCOMMANDS = (Subcommand(history, _add_selection, Role.HISTORY_READER),)


def _channels(options: Options) -> list[str]:
    """Return the names of the channels; those need not be declared any more that have messages."""
    references = options["channels"]
    rows = Handled.objects.using(options["database"])
    kept = [name for name in references if rows.filter(channel=name).exists()]
    known = [*kept, *(channel.postgres_name() for channel in declared_channels())]
    return resolve_channels(references, known)


def _within(rows: Any, options: Options) -> Any:
    if options["since"]:
        rows = rows.filter(handled_at__gte=options["since"])
    if options["until"]:
        rows = rows.filter(handled_at__lte=options["until"])
    return rows


def _brief(row: Row) -> Row:
    return {
        "id": row["id"],
        "channel": str(Lane(row["channel"], row["subscription"])),
        "handled": ago(row["age"]),
        "outcome": row["outcome"],
        "attempts": row["attempts"] + (row["outcome"] == Outcome.HANDLED),
        "took": "" if row["duration"] is None else f"{row['duration']:.2f} s",
        "payload": json.dumps(row["payload"], ensure_ascii=False),
    }


def _nothing(options: Options) -> str:
    names = [one.postgres_name() for one in declared_channels() if one.keep]
    if not names:
        return "Nothing is kept: no channel sets keep."
    return f"Nothing of that is kept. Channels that keep messages: {', '.join(names)}"


def _tell(command: BaseCommand, options: Options, count: int) -> None:
    if options["json"]:
        write_json(command, {"replayed": count, "dry_run": options["dry_run"]})
        return
    would = "would be" if options["dry_run"] else "was" if count == 1 else "were"
    command.stdout.write(f"{pluralize(count, 'message')} {would} sent again.")
