"""``manage.py pgpubsub failed | parked | show``: stored messages, and what went wrong."""

from __future__ import annotations

import datetime
import json
from argparse import ArgumentParser
from typing import Any, assert_never

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import ExpressionWrapper, F
from django.db.models.fields import DurationField
from django.db.models.functions import Now

from pgpubsub_sql.inspection import (
    Inspection,
    NoListener,
    inspect_message,
    last_line,
    long_calls,
    max_attempts,
)
from pgpubsub_sql.management.base import Options, Row, Subcommand, fetch
from pgpubsub_sql.management.output import (
    blocks,
    one_line,
    output_width,
    pluralize,
    table,
    write_json,
)
from pgpubsub_sql.management.selection import (
    add_channels,
    add_filters,
    add_subscription,
    select,
    stored_messages,
)
from pgpubsub_sql.models import NotificationQuerySet, State
from pgpubsub_sql.sql import query
from pgpubsub_sql.sql.privileges import Role
from pgpubsub_sql.subscriptions import Lane

_NEXT = ExpressionWrapper(F("available_at") - Now(), output_field=DurationField())
_AGE = ExpressionWrapper(Now() - F("created_at"), output_field=DurationField())
_FAILED = ExpressionWrapper(Now() - F("failed_at"), output_field=DurationField())
_COLUMNS = (
    *("id", "channel", "subscription", "message", "created_at", "available_at", "expires_at"),
    *("attempts", "last_error", "reason", "failed_at", "key", "payload", "state"),
)


def failed(command: BaseCommand, options: Options) -> None:
    """List messages that failed: those that will be tried again, and those that are parked.

    Use it to see what goes wrong while workers still retry. It shows the attempts of each message,
    when it is tried next, and the last line of its error.

      manage.py pgpubsub failed
      manage.py pgpubsub failed blog.AuthorChannel --error timeout
    """
    _list(command, options, stored_messages(options).failed(), empty="No message has failed.")


def parked(command: BaseCommand, options: Options) -> None:
    """List parked messages: those that failed for good, and wait for replay or discard.

    manage.py pgpubsub parked
    manage.py pgpubsub parked blog.AuthorChannel --older-than 1d
    """
    _list(command, options, stored_messages(options).parked(), empty=_nothing_parked(options))


def show(command: BaseCommand, options: Options) -> None:
    """Show everything about messages: state, listeners, payload, context and traceback.

    Use it to find out why a message is not handled. failed and parked show the ids.

      manage.py pgpubsub show 7
    """
    rows = _rows(stored_messages(options).filter(pk__in=options["ids"]))
    if missing := sorted({*options["ids"]} - {row["id"] for row in rows}):
        raise CommandError(
            f"No message {missing[0]} is stored in the database {options['database']!r}: it has "
            "been handled or discarded, or it never existed."
        )
    calls = [one._asdict() for one in long_calls(options["database"])]
    for row in rows:
        sessions = fetch(options, query("in_flight"), {"id": row["id"]})
        row |= {"in_flight": sessions[0] if sessions else None} | _handled_by(row, options)
        row["long"] = next((one for one in calls if one["message"] == row["id"]), None)
    if options["json"]:
        write_json(command, rows)
    else:
        command.stdout.write("\n\n".join(map(_whole, rows)))


def _add_selection(parser: ArgumentParser) -> None:
    add_channels(parser)
    add_subscription(parser)
    add_filters(parser)
    parser.add_argument(
        "--limit",
        type=int,
        default=50,
        metavar="N",
        help="Show at most N messages (default: 50).",
    )


def _add_ids(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", type=int, metavar="ID", help="Id of a message.")


SUBCOMMANDS = (
    Subcommand(failed, _add_selection, Role.READER),
    Subcommand(parked, _add_selection, Role.READER),
    Subcommand(show, _add_ids, Role.READER),
)


def _list(
    command: BaseCommand, options: Options, rows: NotificationQuerySet, *, empty: str
) -> None:
    """List *rows*, the oldest first, and say how many are left out."""
    rows, limit = select(rows, options), max(0, options["limit"])
    total, shown = rows.count(), _rows(rows, limit)
    if options["json"]:
        write_json(command, {"total": total, "messages": shown})
        return
    lines = [table([_brief(row) for row in shown], output_width(command))] if shown else []
    if len(shown) < total:
        lines.append(f"{len(shown)} of {total} shown; --limit {total} shows all.")
    lines.append("For details: python manage.py pgpubsub show ID" if total else empty)
    command.stdout.write("\n".join(lines))


def _nothing_parked(options: Options) -> str:
    count = stored_messages(options).retrying().count()
    if not count:
        return "Nothing is parked."
    messages = pluralize(count, "message")
    wait, its = ("waits", "its") if count == 1 else ("wait", "their")
    return (
        f"Nothing is parked. {messages} failed and {wait} for {its} next attempt: "
        "python manage.py pgpubsub failed"
    )


def _rows(rows: NotificationQuerySet, limit: int | None = None) -> list[Row]:
    rows = rows.with_state().annotate(age=_AGE, next=_NEXT, failed=_FAILED).order_by("pk")
    values = rows.values(*_COLUMNS, "age", "next", "failed")
    return [_described(row) for row in values[:limit]]


def _described(row: Row) -> Row:
    """Add the last line of the traceback as the error, and the attempts that the channel allows."""
    traceback = row.pop("last_error")
    return row | {
        "max_attempts": max_attempts(row["channel"]),
        "error": last_line(traceback),
        "last_error": traceback,
    }


def _lane(row: Row) -> Lane:
    return Lane(row["channel"], row["subscription"])


def _brief(row: Row) -> Row:
    return {
        "id": row["id"],
        "channel": str(_lane(row)),
        "failed": ago(row["failed"]),
        "attempts": _attempts(row),
        "next": _next(row),
        "error": row["error"],
    }


def _next(row: Row) -> str:
    """Return when the next attempt is, or the state if no time is set for it."""
    if row["state"] == State.RETRYING:
        return f"in {_duration(row['next'])}"
    return str(row["state"]).replace("_", " ")


def _attempts(row: Row) -> str:
    most = row["max_attempts"]
    return f"{row['attempts']} of {most}" if most else str(row["attempts"])


def _duration(passed: datetime.timedelta) -> str:
    """Return a duration in its largest unit, such as ``25 s``, ``3 min`` or ``2 d``."""
    seconds = max(0, round(passed.total_seconds()))
    for unit, length in {"d": 86400, "h": 3600, "min": 60}.items():
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _past(moment: datetime.datetime | None, passed: datetime.timedelta | None) -> str:
    return f"{_moment(moment)} ({ago(passed)})" if moment else ""


def ago(passed: datetime.timedelta | None) -> str:
    """Return how long ago something was, such as ``25 s ago``; empty if that is not known."""
    return "" if passed is None else f"{_duration(passed)} ago"


def _whole(row: Row) -> str:
    """Return a block with everything about a message."""
    block = {
        "id": row["id"],
        "channel": row["channel"],
        "subscription": row["subscription"],
        "state": _state_in_words(row),
        "handling": _handling(row["long"]) if row["long"] else None,
        "sent": _past(row["created_at"], row["age"]),
        "expires": _moment(row["expires_at"]),
        "attempts": _attempts(row),
        "failed": _past(row["failed_at"], row["failed"]),
        "listeners": row["listeners"] or row["no_listener"],
        "key": row["key"],
        "context": _lines(row["context"]) if row["context"] else None,
        "payload": _lines(row["payload"]),
        "error": row["error"],
        "traceback": row["last_error"].splitlines() if "\n" in row["last_error"].strip() else None,
    }
    always = ("id", "channel", "state", "sent", "attempts", "listeners", "payload")
    return blocks([{name: block[name] for name in block if name in always or block[name]}])


def _state_in_words(row: Row) -> str:
    if session := row["in_flight"]:
        length = _duration(datetime.timedelta(seconds=session["seconds"]))
        return f"in flight: {session['worker']} (pid {session['pid']}) has had it for {length}"
    due = row["next"] and _duration(row["next"])
    return {
        State.PARKED: "parked: not tried again until somebody replays it",
        State.READY: "ready: the next free worker handles it",
        State.RETRYING: f"failed; the next attempt is in {due} ({_moment(row['available_at'])})",
        State.DELAYED: f"delayed until {_moment(row['available_at'])} (in {due})",
        State.IN_FLIGHT: "in flight until a moment ago",  # its session has ended since
    }[row["state"]]


def _handling(call: Row) -> str:
    length = _duration(datetime.timedelta(seconds=call["seconds"]))
    who = call["listener"] or "a worker"
    return f"{who} for {length}, in process {call['process']} on {call['host']}"


def _moment(moment: datetime.datetime | None) -> str:
    return moment.isoformat(sep=" ", timespec="seconds") if moment else ""


def _lines(value: Any) -> list[str]:
    text = json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder)
    return text.splitlines()


def _handled_by(row: Row, options: Options) -> Row:
    """Return the listeners and the context of a message, or why it has no listener."""
    payload = json.dumps(row["payload"])
    found = inspect_message(_lane(row), payload, using=options["database"])
    return {
        "listeners": list(found.listeners),
        "no_listener": _no_listener(found),
        "context": found.context,
    }


def _no_listener(found: Inspection) -> str:
    match found.no_listener:
        case None:
            return ""
        case NoListener.UNDECLARED:
            return "none: no channel of this name is declared"
        case NoListener.UNREADABLE:
            return f"none: the payload cannot be read. {one_line(found.error)}"
        case NoListener.OTHER_EVENTS:
            return f"none for {found.timed_event}"
        case NoListener.NONE:
            return "none: the channel has no listener"
        case _:
            assert_never(found.no_listener)
