"""Figures: what listeners did in the last minutes, as numbers and as bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.utils.formats import number_format
from django.utils.translation import gettext

from pgpubsub_sql.counting import MINUTES, Minutes

BAR, HEIGHT = 4, 24
"""Width of a bar with the gap beside it, and height of the highest, in units of the figure."""


class Bar(NamedTuple):
    """A rectangle of the figure. Its attributes are text, so that no language writes a comma."""

    x: str
    y: str
    height: str
    opacity: str


def shown_listener(one: Minutes) -> dict[str, Any]:
    """Return what the template shows of a listener."""
    rate, seconds = one.rate, one.seconds_each
    every = [sum(both) for both in zip(one.handled, one.failed, strict=True)]
    title = gettext("Messages a minute over the last %(minutes)d minutes: %(most)d at most")
    return {
        "channel": one.channel,
        "listener": one.listener or gettext("none: it was not reached"),
        "handled": number_format(rate.handled, decimal_pos=1),
        "failed": number_format(rate.failed, decimal_pos=1),
        "seconds": "" if seconds is None else number_format(seconds, decimal_pos=3),
        "title": title % {"minutes": MINUTES, "most": max(every)},
        "size": (MINUTES * BAR, HEIGHT),
        "bars": list(_bars(one, max(every))),
    }


def _bars(one: Minutes, most: int) -> Iterator[Bar]:
    """Yield a pale bar for what was handled in each minute, and a full one below for the rest."""
    for place, (handled, failed) in enumerate(zip(one.handled, one.failed, strict=True)):
        low, high = (HEIGHT * number / (most or 1) for number in (failed, handled))
        if failed:
            yield Bar(str(place * BAR), f"{HEIGHT - low:.1f}", f"{low:.1f}", "1")
        if handled:
            yield Bar(str(place * BAR), f"{HEIGHT - low - high:.1f}", f"{high:.1f}", "0.5")
