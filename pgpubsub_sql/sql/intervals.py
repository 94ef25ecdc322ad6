"""Parsing of intervals in any of PostgreSQL's styles."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

_CLOCK = r"(?P<sign>[-+]?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)"
_INTERVALS = tuple(
    re.compile(pattern)
    for pattern in (
        # postgres: 1 year 2 mons -3 days +04:05:06.789
        r"(?:(?P<years>[-+]?\d+) years? ?)?(?:(?P<months>[-+]?\d+) mons? ?)?"
        rf"(?:(?P<days>[-+]?\d+) days? ?)?(?:{_CLOCK})?",
        # iso_8601: P1Y2M-3DT4H5M6.789S
        r"P(?:(?P<years>-?\d+)Y)?(?:(?P<months>-?\d+)M)?(?:(?P<days>-?\d+)D)?"
        r"(?:T(?:(?P<hours>-?\d+)H)?(?:(?P<minutes>-?\d+)M)?(?:(?P<seconds>-?\d+(?:\.\d+)?)S)?)?",
        # postgres_verbose: @ 1 year 2 mons -3 days 4 hours 5 mins 6.789 secs ago
        r"@(?: (?P<years>-?\d+) years?)?(?: (?P<months>-?\d+) mons?)?(?: (?P<days>-?\d+) days?)?"
        r"(?: (?P<hours>-?\d+) hours?)?(?: (?P<minutes>-?\d+) mins?)?"
        r"(?: (?P<seconds>-?\d+(?:\.\d+)?) secs?)?(?: 0)?(?P<negative> ago)?",
        # sql_standard, one sign for all: -1-2, -3 4:05:06.789, -4:05:06, 0
        rf"(?P<negative>-?)(?:(?P<years>\d+)-(?P<months>\d+)|(?:(?P<days>\d+) )?{_CLOCK}|0)",
        # sql_standard, signs differ: +1-2 -3 +4:05:06.789
        rf"(?P<era>[-+])(?P<years>\d+)-(?P<months>\d+) (?P<days>[-+]\d+) {_CLOCK}",
    )
)


class Interval(NamedTuple):
    """Years and months are kept apart, because they have no fixed length."""

    years: int
    months: int
    rest: datetime.timedelta


def read_interval(text: str) -> Interval:
    """Return the interval in *text*, whichever IntervalStyle the writer's session had.

    Raises :class:`ValueError` if it is not an interval, :class:`OverflowError` if it is too long.
    """
    match = next(filter(None, (style.fullmatch(text) for style in _INTERVALS)), None)
    if match is None or not text:
        raise ValueError("not an interval")
    part = match.groupdict("0")
    whole = -1 if part.get("negative", "0") in {"-", " ago"} else 1
    era, clock = (-whole if part.get(sign) == "-" else whole for sign in ("era", "sign"))
    rest = datetime.timedelta(
        days=whole * int(part["days"]),
        hours=clock * int(part["hours"]),
        minutes=clock * int(part["minutes"]),
        seconds=clock * float(part["seconds"]),
    )
    return Interval(era * int(part["years"]), era * int(part["months"]), rest)
