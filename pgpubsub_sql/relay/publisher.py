"""The publisher: a worker whose delivery is to publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from django.db.utils import DatabaseError, InterfaceError

from pgpubsub_sql.channels import BaseChannel
from pgpubsub_sql.errors import BrokerUnavailable, RelayError
from pgpubsub_sql.listeners import batch_listener_of
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.outbox import Outbox, Published
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.sql.own_tables import RELAY
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.connections import RELAY as PURPOSE
from pgpubsub_sql.worker.counters import Count
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.outcomes import Expired, Park
from pgpubsub_sql.worker.worker import Worker

logger = logging.getLogger("pgpubsub_sql.relay")

STUCK = f"{PURPOSE}, stuck"
"""``application_name`` of its LISTEN connection while a channel cannot be published."""
CONNECT_AGAIN_SECONDS = 5.0
"""Time between two attempts to connect to the broker, for all channels together."""


class Publisher(Delivery):
    """Publishes what is stored for the subscription ``relay``, instead of calling a listener.

    A failure of the broker is charged to no message: the worker leaves the channel alone for a
    while, longer and longer, and holds no transaction open meanwhile.
    """

    def __init__(self, *args: Any, settings: RelaySettings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stuck: set[str] = set()
        """Channels of which nothing could be published when that was tried last."""
        self._settings = settings
        self._stack = ExitStack()
        self._outboxes: dict[str, Outbox] = {}
        """Empty before the first connection to the broker."""
        self._connect_at, self._refusal = 0.0, ""
        self._paths = {
            name: one.path
            for name, channel in self.channels.items()
            if (one := batch_listener_of(channel, RELAY))
        }

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def handle_stored(self, name: str, subscription: str = "", *, thorough: bool = True) -> bool:
        """Publish one batch; return whether to look again at once.

        Raises :class:`RelayError`, :class:`NotReady` if the client of the broker cannot be used,
        and what Django raises if the server is gone.
        """
        self._raw_notifies[name].store()
        started = time.monotonic()
        self.session.prepare()
        try:
            found = self._outbox(name).publish_next()
            self._count(Lane(name, subscription), found, time.monotonic() - started)
            found.check()
        except (DatabaseError, InterfaceError):
            raise
        except Exception:
            self._stuck.add(name)
            raise
        self._stuck.discard(name)
        self.session.tidy_up()
        return bool(found)

    @property
    def is_stuck(self) -> bool:
        """Whether a channel cannot be published, for a reason that is not the database's."""
        return bool(self._stuck)

    def _outbox(self, name: str) -> Outbox:
        if not self._outboxes:
            broker = self._connected()
            self._outboxes = {
                name: Outbox(broker, channel, using=self.session.using)
                for name, channel in self.channels.items()
            }
        return self._outboxes[name]

    def _connected(self) -> Broker:
        """Connect; after a failure, only once some seconds have passed."""
        if time.monotonic() < self._connect_at:
            raise BrokerUnavailable(self._refusal)
        try:
            return self._stack.enter_context(Broker(self._settings))
        except RelayError as error:
            self._refusal = str(error)
            self._connect_at = time.monotonic() + CONNECT_AGAIN_SECONDS
            raise

    def _count(self, lane: Lane, found: Published, seconds: float) -> None:
        if not found:
            return
        parked = len(found.parked)
        counted = Count(handled=found.published, parked=parked, seconds=seconds)
        self.counters.add(*lane, self._paths[lane.channel], counted)
        self.outcomes[type(None)] += found.published
        self.outcomes[Park] += parked
        self.outcomes[Expired] += found.expired
        if found.expired:
            self._states[lane].expire(found.expired)
        for id_ in found.parked:
            message = (
                "Message %s of channel %s is too large for the broker, and is parked until you run "
                "`manage.py pgpubsub replay`"
            )
            logger.error(message, id_, lane, extra=lane._asdict())


class PublishingWorker(Worker):
    """Publishes the messages of *channels* from the database *using*, until it is stopped.

    It waits for them, and looks for them, as every worker does.
    """

    delivery: Publisher

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        settings: RelaySettings,
        *,
        using: str = "default",
        name: str = "",
    ) -> None:
        listed = list(channels)
        super().__init__(
            listed,
            using=using,
            lanes=[Lane(channel.postgres_name(), RELAY) for channel in listed],
            name=name,
            delivery=partial(Publisher, settings=settings),
            purpose=PURPOSE,
        )
        logger.info(
            "Publishing %s under the origin %s",
            ", ".join(channel.postgres_name() for channel in listed),
            settings.publisher(),
        )

    def run(self) -> None:
        """Publish until it is asked to stop."""
        with self.delivery:
            super().run()

    def _poll(self) -> None:
        super()._poll()
        if self.doorbell.is_open:  # else it is shown once it is connected again
            self.doorbell.show(STUCK if self.delivery.is_stuck else PURPOSE)
