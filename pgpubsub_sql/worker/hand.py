"""What a worker has in hand, where its supervisor can see it after its death."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import BaseContext
from typing import Any


class Hand:
    """The id of one notification, in memory that processes share.

    Made by the supervisor for each worker. A worker without a supervisor has one that nobody reads.
    """

    def __init__(self, context: BaseContext | None = None) -> None:
        maker: Any = context or multiprocessing
        self._id = maker.RawValue("q", 0)

    @property
    def id(self) -> int | None:
        """What is in hand; None for nothing."""
        return self._id.value or None

    def take(self, notification_id: int) -> None:
        """Publish what is about to be handled."""
        self._id.value = notification_id

    def clear(self) -> None:
        """Nothing is in hand."""
        self._id.value = 0
