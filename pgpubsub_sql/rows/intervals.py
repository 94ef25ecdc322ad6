"""An interval, in whichever of PostgreSQL's styles it was written."""

from __future__ import annotations

import datetime
import re

from django.db.backends.base.base import BaseDatabaseWrapper

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


def as_interval(value: str, connection: BaseDatabaseWrapper) -> datetime.timedelta:
    """Read any IntervalStyle: the writer's session chose it, and only the text tells which."""
    match = next(filter(None, (style.fullmatch(value) for style in _INTERVALS)), None)
    if match is None or not value:
        raise ValueError("not an interval")
    part = match.groupdict("0")
    era, clock = (-1 if part.get(sign) == "-" else 1 for sign in ("era", "sign"))
    delta = datetime.timedelta(
        # A year is 365 days and a month 30, as both drivers have it.
        days=era * (365 * int(part["years"]) + 30 * int(part["months"])) + int(part["days"]),
        hours=clock * int(part["hours"]),
        minutes=clock * int(part["minutes"]),
        seconds=clock * float(part["seconds"]),
    )
    return -delta if part.get("negative", "0") in {"-", " ago"} else delta
