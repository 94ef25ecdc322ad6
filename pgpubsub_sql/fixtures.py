"""Messages in fixtures."""

from __future__ import annotations

from typing import Any


def give_new_id(instance: Any, raw: bool = False, **kwargs: Any) -> None:
    """Let a message that a fixture brings be stored under an id of its own.

    The old one may be that of another message by now, which would be overwritten, or one that
    the sequence is still to come to, which would fail somebody's write.
    """
    if raw:
        instance.pk = None
