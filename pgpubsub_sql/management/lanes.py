"""The subscriptions that ``listen`` handles. It is imported before the settings are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from django.core.management.base import CommandError

from pgpubsub_sql.channels import BaseChannel, declared_channels
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.sql.own_tables import RELAY
from pgpubsub_sql.subscriptions import Lane


def select_lanes(
    channels: Iterable[type[BaseChannel]], included: Sequence[str] | None, excluded: Sequence[str]
) -> list[Lane]:
    """Return the subscriptions of *channels* with these names, or all, without those excluded.

    That of the relay is never among them. Raises :class:`CommandError` for a name that no listener
    has, and if none is left.
    """
    known = {lane.subscription for lane in _handled(declared_channels())}
    for name in [*(included or ()), *excluded]:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            hint = " The relay publishes it: listen --relay." if name == RELAY else hint
            raise CommandError(f"No listener names the subscription {name!r}.{hint}")
    wanted = known if included is None else {*included}
    lanes = _handled(channels)
    found = [lane for lane in lanes if lane.subscription in wanted.difference(excluded)]
    if not found:
        raise CommandError(
            "There is nothing to listen to: these channels have no such subscription. "
            "python manage.py pgpubsub ls CHANNEL shows those that a channel has."
            if lanes
            else "There is nothing to listen to: no listener here wants what these channels send. "
            "To publish it: python manage.py listen --relay"
        )
    return found


def _handled(channels: Iterable[type[BaseChannel]]) -> list[Lane]:
    """Return the subscriptions of *channels* that workers handle."""
    return [lane for lane in registry.lanes_of(channels) if lane.subscription != RELAY]
