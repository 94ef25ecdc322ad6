"""The streams of this project's channels: how they must be configured, made and checked."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.names import Stream, every_subject, parse
from pgpubsub_sql.relay.owner import Owner, check_not_foreign, check_owner, owner_of
from pgpubsub_sql.relay.settings import NAME, RelaySettings

DUPLICATE_WINDOW = datetime.timedelta(minutes=2)
"""How long the broker itself recognizes a message that it is sent again."""

_NO_REPLICAS = (10074, 10005)
"""``err_code`` where there are fewer servers than replicas."""
_OVERLAP = 10065
"""``err_code`` for a subject that another stream takes."""


def streams_of(
    origin: str, channel: str, settings: RelaySettings, generation: int = 1
) -> list[Stream]:
    """Return the streams of a *generation* of a channel, as *settings* partition it."""
    return [
        Stream(origin=origin, channel=channel, generation=generation, partition=partition)
        for partition in range(settings.partitions)
    ]


def newest(streams: Iterable[Stream]) -> list[Stream]:
    """Return those of the newest generation, in order, each once."""
    listed = sorted({*streams})
    return [stream for stream in listed if stream.generation == listed[-1].generation]


def wanted(
    origin: str, channel: str, settings: RelaySettings, known: Iterable[Stream]
) -> list[Stream]:
    """Return the streams that a channel should have, of which some are *known*.

    Another number of partitions than that of the newest generation is a new one.
    """
    last = newest(known)
    number = last[-1].generation if last else 1
    same = streams_of(origin, channel, settings, number)
    return same if not last or last == same else streams_of(origin, channel, settings, number + 1)


def configuration(
    stream: Stream, settings: RelaySettings, owner: Owner | None = None
) -> dict[str, Any]:
    """Return how *stream* must be configured, as JetStream's API spells it.

    Nothing may remove a message but its age, so that a sequence has no holes. Without an *owner*,
    programs publish to it.
    """
    return {
        "name": stream.name,
        "description": f"{stream.channel} of {stream.origin}, by pgpubsub_sql",
        "subjects": [stream.subject],
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "compression": "s2",
        "num_replicas": settings.replicas,
        "max_age": nanoseconds(settings.max_age),
        "duplicate_window": nanoseconds(min(DUPLICATE_WINDOW, settings.max_age)),
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "deny_delete": True,
        "deny_purge": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "metadata": owner.metadata() if owner else {},
    }


async def make(
    broker: Broker, stream: Stream, owner: Owner | None = None, *, take_over: bool = False
) -> str:
    """Make *stream*, or bring it to its configuration; return what was done.

    It then belongs to *owner*, if there is one.

    Raises :class:`BrokerUnavailable`, and :class:`BrokerRefused`, also if it belongs to another
    database and *owner* does not *take over*.
    """
    wanted = configuration(stream, broker.settings, owner)
    found = await broker.find(f"STREAM.INFO.{stream.name}")
    if found is None:
        await _apply(broker, "CREATE", stream, wanted)
        return "made"
    if owner and not take_over:
        check_not_foreign(stream, owner_of(found), owner)
    if not list(_differences(found, wanted)):
        return "exists"
    # The broker has metadata of its own.
    metadata = (found["config"].get("metadata") or {}) | wanted["metadata"]
    await _apply(broker, "UPDATE", stream, found["config"] | wanted | {"metadata": metadata})
    return "changed"


async def problems(broker: Broker, stream: Stream, ours: Owner) -> list[str]:
    """Return what is wrong with *stream* on the broker, each with a remedy, in sentences.

    It should be the stream of the database *ours*.
    """
    found = await broker.find(f"STREAM.INFO.{stream.name}")
    if found is None:
        return ["It does not exist. Run: python manage.py pgpubsub relay --setup"]
    try:
        check_owner(stream, found, ours)
    except BrokerRefused as error:
        return [str(error)]
    differ = list(_differences(found, configuration(stream, broker.settings)))
    return [
        *(f"It {text}. Run: python manage.py pgpubsub relay --setup" for text in differ),
        *(f"It {text}." for text in missing_replicas(found)),
    ]


async def owned(
    broker: Broker, origin: str, channel: str, ours: Owner, verified: set[Stream]
) -> tuple[list[Stream], dict[Stream, BrokerUnavailable]]:
    """Return what :func:`existing` does; the newest generation is that of the database *ours*.

    A stream that does not answer is still that if it was *verified* before, which is kept up to
    date. The others that do not answer are returned, too, each with the reason.

    Raises :class:`BrokerUnavailable`, and :class:`BrokerRefused` if one is not *ours*.
    """
    found = await existing(broker, origin, channel)
    verified.intersection_update(found)
    silent: dict[Stream, BrokerUnavailable] = {}

    async def verify(stream: Stream) -> None:
        try:
            info = await broker.api(f"STREAM.INFO.{stream}")
        except BrokerUnavailable as error:
            if stream not in verified:
                silent[stream] = error
            return
        verified.discard(stream)
        check_owner(stream, info, ours)
        verified.add(stream)

    results = await asyncio.gather(*map(verify, newest(found)), return_exceptions=True)
    for error in filter(None, results):
        raise error
    return found, silent


async def existing(broker: Broker, origin: str, channel: str) -> list[Stream]:
    """Return the streams of a channel of one *origin* that exist, in order."""
    names = await _names(broker, every_subject(origin, channel))
    found = [stream for name in names if (stream := parse(name))]
    return sorted(one for one in found if (one.origin, one.channel) == (origin, channel))


async def _names(broker: Broker, subject: str) -> list[str]:
    """Return the names of all streams that take messages of *subject*, whoever has made them."""
    found: list[str] = []
    while True:
        body = {"subject": subject, "offset": len(found)}
        answer = await broker.api("STREAM.NAMES", body)
        names = answer.get("streams") or []
        found += names
        if not names or len(found) >= int(answer["total"]):
            return found


def publisher_permissions(streams: Iterable[Stream]) -> list[str]:
    """Return the subjects to which a user that publishes must be allowed to publish."""
    return [
        "$JS.API.STREAM.NAMES",
        *(
            subject
            for stream in streams
            for subject in (f"$JS.API.STREAM.INFO.{stream}", stream.subject)
        ),
    ]


def receiver_permissions(streams: Iterable[Stream]) -> list[str]:
    """Return the subjects to which a user that receives must be allowed to publish."""
    return [
        "$JS.API.STREAM.NAMES",
        *(
            subject
            for stream in streams
            for subject in (
                f"$JS.API.STREAM.INFO.{stream}",
                f"$JS.API.CONSUMER.CREATE.{stream}",
                f"$JS.API.CONSUMER.DELETE.{stream}.*",
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            )
        ),
    ]


def server_configuration(user: str, subjects: Iterable[str]) -> str:
    """Return the permissions of *user* as nats-server's configuration spells them."""
    allowed = ",\n".join(f"      {json.dumps(subject)}" for subject in subjects)
    return (
        f"{{ user: {user}, permissions: {{\n"
        f"    publish: [\n{allowed}\n    ]\n"
        '    subscribe: ["_INBOX.>"]\n} }'
    )


def nanoseconds(duration: datetime.timedelta) -> int:
    """Return *duration* in JetStream's unit."""
    return duration // datetime.timedelta(microseconds=1) * 1000


async def _apply(broker: Broker, verb: str, stream: Stream, wanted: dict[str, Any]) -> None:
    try:
        answer = await broker.api(f"STREAM.{verb}.{stream.name}", wanted)
    except BrokerRefused as error:
        if error.number in _NO_REPLICAS:
            raise BrokerRefused(
                f"The stream {stream} cannot have {wanted['num_replicas']} replicas: {error} Start "
                f"as many servers in one cluster, or set 'replicas' in {NAME}.",
                error.number,
            ) from error
        if error.number == _OVERLAP:
            others = await _names(broker, stream.subject)
            raise BrokerRefused(
                f"The stream {stream} cannot be made: {', '.join(others)} takes its messages. "
                f"Remove the subject {stream.subject} from that one, then run --setup again.",
                error.number,
            ) from error
        raise
    if ignored := list(_differences(answer, wanted)):
        raise BrokerRefused(f"The broker has made the stream {stream}, but {ignored[0]}.")


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    config = found["config"]
    for key, value in wanted.items():
        actual = config.get(key, False if isinstance(value, bool) else None)
        if key == "metadata":
            actual = {name: (actual or {}).get(name) for name in value}
        if actual != value and key != "description":
            yield f"has {key} = {json.dumps(actual)}, not {json.dumps(value)}"


def missing_replicas(found: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the servers that keep a stream."""
    cluster = found.get("cluster") or {}
    if cluster and not cluster.get("leader"):
        yield "has no leader now, so nothing can be published. Look for servers that are down"
    for replica in cluster.get("replicas") or []:
        if replica.get("offline") or not replica.get("current"):
            state = "is down" if replica.get("offline") else "is behind"
            yield f"has a replica that {state}, on the server {replica.get('name')}"
