"""What is wrong with the options that say how a channel's messages are handled."""

from __future__ import annotations

from collections.abc import Iterator

from pgpubsub_sql import payloads
from pgpubsub_sql.channels import BaseChannel, Channel, codec
from pgpubsub_sql.retry import Retry, is_number


def problems(channel: type[BaseChannel], path: str) -> Iterator[str]:
    """Say of each option of *channel* that cannot be what is wrong, and what would be right."""
    if not isinstance(channel.retry, Retry):
        yield f"{path} has a retry that is no policy: give it pgpubsub_sql.Retry(max_attempts=…)."
    timeout, size = channel.timeout, channel.batch_size
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        yield f"{path} has the timeout {timeout!r}: give it seconds, more than 0, or None."
    if size is not None and not (type(size) is int and size >= 1):
        yield f"{path} has the batch_size {size!r}: give it a number of at least 1, or None."
    accepts: object = channel.accept_raw_notify
    if not isinstance(accepts, bool):
        yield f"{path} has the accept_raw_notify {accepts!r}: give it True or False."
    yield from _key_problems(channel, path)


def _key_problems(channel: type[BaseChannel], path: str) -> Iterator[str]:
    key: object = channel.ordering_key
    if not isinstance(key, str | tuple | list) or key == "":
        yield f"{path} has the ordering_key {key!r}: give it the name of a field, or several."
        return
    fields = channel.ordering_fields()
    if fields and not channel.lock_notifications:
        yield (
            f"{path} has an ordering_key and is ephemeral, where nothing keeps what comes next: "
            "add lock_notifications = True."
        )
    if issubclass(channel, Channel) and not payloads.problems(channel, path):
        known = codec(channel).fields
        for field in [field for field in fields if field not in known]:
            yield (
                f"{path} has no field {field!r}, which its ordering_key names: choose from "
                f"{', '.join(known)}."
            )
