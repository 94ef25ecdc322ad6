"""The subcommands of ``manage.py pgpubsub``.

To add one: write a function whose name is the word and whose docstring is the help, and list it in
the SUBCOMMANDS of its module.
"""

from __future__ import annotations

from pgpubsub_sql.management.base import Subcommand
from pgpubsub_sql.management.subcommands import (
    adopt,
    channels,
    history,
    leave,
    messages,
    pausing,
    relay,
    replay,
    schemas,
    sending,
    status,
    subscriptions,
    tailing,
    triggers,
)

SUBCOMMANDS: tuple[Subcommand, ...] = (
    *channels.SUBCOMMANDS,
    *triggers.SUBCOMMANDS,
    *status.SUBCOMMANDS,
    *messages.SUBCOMMANDS,
    *history.SUBCOMMANDS,
    *replay.SUBCOMMANDS,
    *pausing.SUBCOMMANDS,
    *subscriptions.SUBCOMMANDS,
    *relay.SUBCOMMANDS,
    *sending.SUBCOMMANDS,
    *tailing.SUBCOMMANDS,
    *schemas.SUBCOMMANDS,
    *adopt.SUBCOMMANDS,
    *leave.SUBCOMMANDS,
)
