"""``manage.py pgpubsub failed | parked | show``: stored messages, to be looked at."""

from __future__ import annotations

import datetime
import json
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import ExpressionWrapper, F
from django.db.models.fields import DurationField
from django.db.models.functions import Now

from pgpubsub_sql.channels import BaseChannel, find_channel
from pgpubsub_sql.errors import ChannelNotFound, PayloadError
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.management.choosing import chosen, stored, with_choice
from pgpubsub_sql.management.subcommands import Options, Subcommand, counted, run, show_json
from pgpubsub_sql.management.tables import blocks, one_line, table, width_of
from pgpubsub_sql.models import NotificationQuerySet
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.worker.messages import decode_message

_NEXT = ExpressionWrapper(F("available_at") - Now(), output_field=DurationField())
_AGE = ExpressionWrapper(Now() - F("created_at"), output_field=DurationField())
_COLUMNS = (
    *("id", "channel", "created_at", "available_at", "expires_at"),
    *("attempts", "last_error", "key", "payload"),
)

Row = dict[str, Any]


def failed(command: BaseCommand, options: Options) -> None:
    """Show messages that have failed and wait for their next attempt, or are parked, and why."""
    _list(command, options, stored(options).failed(), empty="No message has failed.")


def parked(command: BaseCommand, options: Options) -> None:
    """Show parked messages, which are not tried again until somebody replays them, and why."""
    _list(command, options, stored(options).parked(), empty=_nothing_parked(options))


def show(command: BaseCommand, options: Options) -> None:
    """Show all that is known of stored messages: who handles them, when, and what went wrong."""
    rows = _rows(stored(options).filter(pk__in=options["ids"]))
    if missing := sorted({*options["ids"]} - {row["id"] for row in rows}):
        raise CommandError(
            f"No message {missing[0]} is stored in the database {options['database']!r}: it was "
            "handled or discarded, or there never was one."
        )
    for row in rows:
        hands = run(options, "in_hand", {"id": row["id"]})
        row |= {"in_hand": hands[0] if hands else None} | _handled_by(row, options)
    if options["json"]:
        show_json(command, rows)
    else:
        command.stdout.write("\n\n".join(map(_whole, rows)))


def with_limit(parser: ArgumentParser) -> None:
    """Let messages be chosen, and no more be shown than wanted."""
    with_choice(parser)
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="Show no more than these (50)."
    )


def with_ids(parser: ArgumentParser) -> None:
    """Let messages be named."""
    parser.add_argument("ids", nargs="+", type=int, metavar="ID", help="Id of a message.")


SUBCOMMANDS = (
    Subcommand(failed, with_limit, Role.READER),
    Subcommand(parked, with_limit, Role.READER),
    Subcommand(show, with_ids, Role.READER),
)


def _list(
    command: BaseCommand, options: Options, rows: NotificationQuerySet, *, empty: str
) -> None:
    """Show *rows*, the oldest first, and say how many are left out."""
    rows, limit = chosen(rows, options), max(0, options["limit"])
    total, shown = rows.count(), _rows(rows, limit)
    if options["json"]:
        show_json(command, {"total": total, "messages": shown})
        return
    lines = [table([_brief(row) for row in shown], width_of(command))] if shown else []
    if len(shown) < total:
        lines.append(f"{len(shown)} of {total} shown; --limit {total} shows all.")
    lines.append("See one whole: python manage.py pgpubsub show ID" if total else empty)
    command.stdout.write("\n".join(lines))


def _nothing_parked(options: Options) -> str:
    count = stored(options).retrying().count()
    if not count:
        return "Nothing is parked."
    wait, its = ("waits", "its") if count == 1 else ("wait", "their")
    return (
        f"Nothing is parked. {counted(count, 'message')} failed and {wait} for {its} next attempt: "
        "python manage.py pgpubsub failed"
    )


def _rows(rows: NotificationQuerySet, limit: int | None = None) -> list[Row]:
    values = rows.annotate(age=_AGE, next=_NEXT).order_by("pk").values(*_COLUMNS, "age", "next")
    return [_described(row) for row in values[:limit]]


def _described(row: Row) -> Row:
    """Return what is told of a message; of its error first the last line, which says most."""
    channel = _channel(row["channel"])
    traceback = row.pop("last_error")
    return row | {
        "state": _state(row, traceback),
        "max_attempts": channel.retry.max_attempts if channel else None,
        "error": traceback.strip().rpartition("\n")[2],
        "last_error": traceback,
    }


def _state(row: Row, error: str) -> str:
    if row["available_at"] is None:
        return "parked"
    if row["next"] <= datetime.timedelta():
        return "ready"
    return "retrying" if error else "delayed"


def _brief(row: Row) -> Row:
    return {
        "id": row["id"],
        "channel": row["channel"],
        "sent": f"{ago(row['age'])} ago",
        "attempts": _attempts(row),
        "next": row["state"] if row["state"] != "retrying" else f"in {ago(row['next'])}",
        "error": row["error"],
    }


def _attempts(row: Row) -> str:
    most = row["max_attempts"]
    return f"{row['attempts']} of {most}" if most else str(row["attempts"])


def ago(passed: datetime.timedelta) -> str:
    """Return a length of time in its largest unit, such as ``25 s``, ``3 min`` or ``2 d``."""
    seconds = max(0, round(passed.total_seconds()))
    for unit, length in {"d": 86400, "h": 3600, "min": 60}.items():
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _whole(row: Row) -> str:
    """Return a block of all that is known of a message."""
    block = {
        "id": row["id"],
        "channel": row["channel"],
        "state": _state_in_words(row),
        "sent": f"{_moment(row['created_at'])} ({ago(row['age'])} ago)",
        "expires": _moment(row["expires_at"]),
        "attempts": _attempts(row),
        "listeners": row["listeners"] or row["unheard"],
        "key": row["key"],
        "context": _lines(row["context"]) if row["context"] else None,
        "payload": _lines(row["payload"]),
        "error": row["error"],
        "traceback": row["last_error"].splitlines() if "\n" in row["last_error"].strip() else None,
    }
    always = ("id", "channel", "state", "sent", "attempts", "listeners", "payload")
    return blocks([{name: block[name] for name in block if name in always or block[name]}])


def _state_in_words(row: Row) -> str:
    if hand := row["in_hand"]:
        since = ago(datetime.timedelta(seconds=hand["seconds"]))
        return f"in the hands of {hand['worker']} (pid {hand['pid']}) since {since} ago"
    due = row["next"] and ago(row["next"])
    return {
        "parked": "parked: not tried again until somebody replays it",
        "ready": "ready: the next free worker handles it",
        "retrying": f"failed; the next attempt is in {due} ({_moment(row['available_at'])})",
        "delayed": f"delayed until {_moment(row['available_at'])}, in {due}",
    }[str(row["state"])]


def _moment(moment: datetime.datetime | None) -> str:
    return moment.isoformat(sep=" ", timespec="seconds") if moment else ""


def _lines(value: Any) -> list[str]:
    text = json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder)
    return text.splitlines()


def _handled_by(row: Row, options: Options) -> Row:
    """Return the listeners that a message is for, or why there are none, and its context."""
    found: Row = {"listeners": [], "unheard": "", "context": {}}
    channel = _channel(row["channel"])
    if channel is None:
        return found | {"unheard": "none: no channel of this name is declared"}
    try:
        message = decode_message(channel, json.dumps(row["payload"]), using=options["database"])
    except PayloadError as error:
        return found | {"unheard": f"none: it cannot be read. {one_line(str(error))}"}
    listeners = registry.listeners_of(channel)
    paths = [one.path for one in listeners if one.accepts(message.event)]
    unheard = "" if paths else _unheard(message.event, [one.path for one in listeners])
    return {"listeners": paths, "unheard": unheard, "context": dict(message.context)}


def _unheard(event: str, others: Iterable[str]) -> str:
    return f"none for {event}" if any(others) else "none is declared for this channel"


def _channel(name: str) -> type[BaseChannel] | None:
    try:
        return find_channel(name)
    except ChannelNotFound:
        return None
