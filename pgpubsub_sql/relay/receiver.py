"""The receiver: reads streams of other databases, and stores their messages in this one."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.db import connections
from django.db.utils import DatabaseError, InterfaceError

from pgpubsub_sql.channels import BaseChannel, declared_channels
from pgpubsub_sql.errors import BrokerRefused, BrokerUnavailable, RelayError, StreamBroken
from pgpubsub_sql.relay.broker import Broker
from pgpubsub_sql.relay.consumer import Consumer, ConsumerGone, Incoming, MessagesSkipped
from pgpubsub_sql.relay.inbox import InboxWriter, Overtaken
from pgpubsub_sql.relay.names import Stream, every_subject, parse
from pgpubsub_sql.relay.position import Continuity, StreamPosition, broken
from pgpubsub_sql.relay.publishing import CLOSED
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.relay.streams import existing
from pgpubsub_sql.retry import Backoff
from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.connections import open_for_worker
from pgpubsub_sql.worker.shutdown import Shutdown

logger = logging.getLogger("pgpubsub_sql.relay")

LOOK_SECONDS = 10.0
"""Time between two looks for streams that nobody reads."""
RESTART_SECONDS = 0.1
"""Time after which a stream is begun again whose consumer has ended."""
AHEAD = 2
"""Batches of a stream that are read before they are stored."""
SWEEP_SECONDS = 60.0
"""Time between two sweeps of the inbox."""
SWEPT = 10_000
"""Most messages that one sweep deletes. If there were as many, another follows at once."""
HOLES = 3
"""So often a stream may go on with another message than the next before it counts as broken."""
ANSWER_SECONDS = 15.0
"""How long the thread of the broker may take to answer."""


def received_channels() -> list[type[BaseChannel]]:
    """Return the channels whose messages come from other databases."""
    return [channel for channel in declared_channels() if channel.received_from is not None]


class Reader:
    """Reads one stream, in the thread of the broker, and stores in the thread of its caller."""

    def __init__(
        self, stream: Stream, inbox: InboxWriter, position: StreamPosition, *, is_held: bool
    ) -> None:
        self.stream = stream
        self.has_stored = False
        self._inbox = inbox
        self._position = position
        self._continuity = Continuity(stream, position, is_held=is_held)
        self._room = asyncio.Semaphore(AHEAD)
        self.task: Future[None]

    async def read(self, broker: Broker, arrived: Any) -> None:
        """Read without end, and call *arrived* with each batch."""
        async with Consumer.opened(broker, self.stream, self._continuity.start) as consumer:
            while True:
                messages = await consumer.read()
                await self._room.acquire()
                arrived(messages)

    def store(self, messages: list[Incoming]) -> int:
        """Store *messages*; return how many were new in the stream.

        Raises :class:`ConsumerGone`, :class:`StreamBroken` and :class:`Overtaken`.
        """
        following = self._continuity.next(messages)
        if following:
            self._position = self._inbox.store(self.stream, self._position, following)
            self.has_stored = True
        if self._continuity.skipped:
            raise MessagesSkipped(self._continuity.skipped)
        return len(following)

    @property
    def is_recognized(self) -> bool:
        """Whether the stream was seen to go on where it was left, as far as can be seen."""
        return not self._continuity.awaits_known

    @property
    def is_closed(self) -> bool:
        """Whether its last message has been stored."""
        return self._continuity.is_closed

    def go_on(self) -> None:
        """Let another batch be read."""
        self._room.release()


class Receiver:
    """Receives the messages of *channels* from the broker into the database *using*.

    Each stream is read by one process, which holds a lock on it. Others try now and then. What
    arrives is stored by an *inbox* for each stream.
    """

    def __init__(
        self,
        channels: Iterable[type[BaseChannel]],
        settings: RelaySettings,
        *,
        using: str = "default",
        shutdown: Shutdown,
        inbox: Callable[[str, type[BaseChannel]], InboxWriter] = InboxWriter,
    ) -> None:
        self._channels = {channel.postgres_name(): channel for channel in channels}
        self._settings = settings
        self._using = using
        self._shutdown = shutdown
        self._inbox = inbox
        self._readers: dict[Stream, Reader] = {}
        self._arrived: deque[tuple[Reader, list[Incoming] | None]] = deque()
        self._problems: dict[Stream, str] = {}
        """Streams that are not read, and why."""
        self._holes: dict[Stream, int] = {}
        """How often a stream has gone on with another message than the next, at one position."""
        self._elsewhere: set[Stream] = set()
        """Streams that another session has the lock on."""
        self._awaited: set[str] = set()
        """Subjects for which there was no stream."""
        self._look_at = self._sweep_at = 0.0
        self.received = 0
        """Number of messages that were stored, or known already."""

    def run(self) -> None:
        """Receive until it is asked to stop; wait while the broker or the database is down."""
        backoff = Backoff()
        while not self._shutdown.is_requested():
            before = self.received
            try:
                with Broker(self._settings) as broker, self._bell():
                    self._receive(broker)
            except (RelayError, DatabaseError, InterfaceError) as error:
                if self.received > before:
                    backoff = Backoff()
                delay = backoff.fail()
                message = "Cannot receive: %s; trying again in %.1f seconds"
                logger.warning(message, str(error).strip().rstrip("."), delay)
                self._shutdown.wait(timeout=delay)
            finally:
                self._readers.clear()
                self._arrived.clear()
                connections[self._using].close()

    @contextmanager
    def _bell(self) -> Iterator[None]:
        """Have a pair of sockets by which the thread of the broker wakes this one."""
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        try:
            yield
        finally:
            self._awake.close()
            self._waker.close()

    def _receive(self, broker: Broker) -> None:
        open_for_worker(self._using)
        self._look_at = self._sweep_at = 0.0
        try:
            while not self._shutdown.is_requested():
                self._look_around(broker)
                self._store_arrived(broker)
                if not self._arrived:
                    self._wait()
        finally:
            for reader in self._readers.values():
                reader.task.cancel()

    def _wait(self) -> None:
        timeout = max(0.0, min(self._look_at, self._sweep_at) - time.monotonic())
        if self._shutdown.wait([self._awake], timeout):
            self._awake.recv(4096)

    def _look_around(self, broker: Broker) -> None:
        """Begin to read the streams that nobody reads, and sweep the inbox, now and then."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            found = broker.run(self._streams(broker), ANSWER_SECONDS)
            for stream in found:
                if stream not in self._readers:
                    self._begin(broker, stream, found)
            self._note_missing(found)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            values = {"seconds": self._settings.kept.total_seconds(), "limit": SWEPT}
            if self._execute("forget", values)[0][0] == SWEPT:
                self._sweep_at = now

    async def _streams(self, broker: Broker) -> list[Stream]:
        return [
            stream
            for channel in self._channels
            for origin in self._settings.sources
            for stream in await existing(broker, origin, channel)
        ]

    def _note_missing(self, found: list[Stream]) -> None:
        """Say which streams are gone that were read before, and which have never been there."""
        rows = self._execute("positions", {})
        known = [parse(name) for name, *_, last in rows if last != CLOSED]
        for stream in known:
            if stream and stream not in found and self._is_ours(stream):
                self._stop(stream, str(broken(stream, "is gone, with all that it still held")))
        for channel in self._channels:
            for origin in self._settings.sources:
                pattern = every_subject(origin, channel)
                if pattern not in self._awaited and not any(
                    (one.origin, one.channel) == (origin, channel) for one in found
                ):
                    self._awaited.add(pattern)
                    message = "There is no stream for %s yet. It is received once %s publishes."
                    logger.warning(message, pattern, origin)

    def _is_ours(self, stream: Stream) -> bool:
        return stream.channel in self._channels and stream.origin in self._settings.sources

    def _is_its_turn(self, broker: Broker, stream: Stream, found: list[Stream]) -> bool:
        """Whether to read *stream*: it is not closed, and all of older generations are.

        An older one that is read to its end counts, too, if there is something in the new one:
        everything was published by then, and its mark has expired.
        """
        position = self._position(stream)
        if position is not None and position.is_closed:
            return False
        older = [
            one
            for one in found
            if (one.origin, one.channel) == (stream.origin, stream.channel)
            and one.generation < stream.generation
        ]
        left = [one for one in older if not ((at := self._position(one)) and at.is_closed)]
        if not left:
            return True
        is_used = self._info(broker, stream)["state"]["last_seq"] > 0
        return is_used and all(self._is_read(broker, one) for one in left)

    def _is_read(self, broker: Broker, stream: Stream) -> bool:
        """Whether *stream* is empty, and was so before something expired unread."""
        info = self._info(broker, stream)
        at = self._position(stream) or StreamPosition.before_all(info)
        return not info["state"]["messages"] and at.sequence >= int(info["state"]["last_seq"])

    @staticmethod
    def _info(broker: Broker, stream: Stream) -> dict[str, Any]:
        return broker.run(broker.api(f"STREAM.INFO.{stream}"), ANSWER_SECONDS)

    # --- One stream

    def _begin(self, broker: Broker, stream: Stream, found: list[Stream]) -> None:
        """Read a stream from its position on, unless another process does, or it is broken.

        It waits for the older ones that were *found*.
        """
        if not self._execute("lock_stream", {"stream": stream.name})[0][0]:
            if stream not in self._elsewhere:
                self._elsewhere.add(stream)
                logger.info("Another session reads the stream %s: waiting for its end", stream)
            return
        self._elsewhere.discard(stream)
        try:
            if not self._is_its_turn(broker, stream, found):
                self._unlock(stream)
                return
            reader = self._reader(broker, stream)
        except (StreamBroken, BrokerRefused) as error:
            self._stop(stream, str(error))
            self._unlock(stream)
            return
        except BrokerUnavailable as error:  # it may have lost its leader; others go on
            logger.warning("Cannot receive from the stream %s yet: %s", stream, error)
            self._unlock(stream)
            return
        if reader.is_recognized:
            self._recover(stream)
        reader.task = asyncio.run_coroutine_threadsafe(
            reader.read(broker, partial(self._arrive, reader)), broker.loop
        )
        self._readers[stream] = reader
        reader.task.add_done_callback(lambda task: self._arrive(reader, None))
        logger.info("Receiving %s from the stream %s", stream.channel, stream)

    def _reader(self, broker: Broker, stream: Stream) -> Reader:
        """Return what reads *stream*; raise :class:`StreamBroken` if it does not go on."""
        info = self._info(broker, stream)
        position = self._position(stream) or self._first_position(stream, info)
        position.check(stream, info)
        if self._holes.get(stream, 0) >= HOLES:
            raise broken(
                stream,
                f"lacks the message {position.sequence + 1}, though it has later ones: somebody "
                "has deleted messages",
            )
        inbox = self._inbox(self._using, self._channels[stream.channel])
        return Reader(stream, inbox, position, is_held=position.is_held(info))

    def _position(self, stream: Stream) -> StreamPosition | None:
        rows = self._execute("position", {"stream": stream.name})
        return StreamPosition(**dict(zip(_POSITION, rows[0], strict=True))) if rows else None

    def _first_position(self, stream: Stream, info: dict[str, Any]) -> StreamPosition:
        first = StreamPosition.before_all(info)
        values = {"created": first.created, "sequence": first.sequence}
        self._execute("add_position", values | {"stream": stream.name})
        return first

    def _store_arrived(self, broker: Broker) -> None:
        while self._arrived and not self._shutdown.is_requested():
            reader, messages = self._arrived.popleft()
            if self._readers.get(reader.stream) is not reader:
                continue
            if messages is None:
                self._ended(reader)
                continue
            try:
                new = reader.store(messages)
            except (ConsumerGone, Overtaken, StreamBroken) as error:
                self._end(reader, error)
            else:
                self.received += new
                if not new:  # only the message that the stream is recognized by
                    self._recover(reader.stream)
                if reader.is_closed:
                    self._close(reader)
                else:
                    broker.loop.call_soon_threadsafe(reader.go_on)

    def _arrive(self, reader: Reader, messages: list[Incoming] | None) -> None:
        """Hand a batch, or the end of its reader, to the other thread. Called by the broker's."""
        self._arrived.append((reader, messages))
        with suppress(OSError):  # it is awake anyway, or has ended
            self._waker.send(b"\0")

    def _ended(self, reader: Reader) -> None:
        """Deal with a reader that has ended by itself."""
        if reader.task.cancelled():
            return
        error = reader.task.exception()
        if isinstance(error, ConsumerGone | RelayError):
            self._end(reader, error)
        elif error:
            raise error

    def _end(self, reader: Reader, error: Exception) -> None:
        """Leave a stream, to begin it again at the stored position."""
        stream = reader.stream
        reader.task.cancel()
        del self._readers[stream]
        self._unlock(stream)
        if isinstance(error, StreamBroken | BrokerRefused):
            self._stop(stream, str(error))
            return
        logger.info("The consumer of the stream %s has ended: %s", stream, error or "overtaken")
        if reader.has_stored:
            self._holes.pop(stream, None)
        elif isinstance(error, MessagesSkipped):
            self._holes[stream] = self._holes.get(stream, 0) + 1
        self._look_at = min(self._look_at, time.monotonic() + RESTART_SECONDS)

    def _close(self, reader: Reader) -> None:
        """Leave a stream for good whose last message is stored, and look for newer ones."""
        reader.task.cancel()
        del self._readers[reader.stream]
        self._unlock(reader.stream)
        self._look_at = 0.0
        logger.info("The stream %s is closed: newer ones follow it", reader.stream)

    def _stop(self, stream: Stream, problem: str) -> None:
        """Say why a stream is not read any further: in the log, once, and in the database."""
        self._holes.pop(stream, None)
        if self._problems.get(stream) != problem:
            self._problems[stream] = problem
            logger.error("Not receiving from the stream %s: %s", stream, problem)
        self._execute("note_problem", {"stream": stream.name, "problem": problem})

    def _recover(self, stream: Stream) -> None:
        """Forget why a stream was not read, now that it is."""
        self._problems.pop(stream, None)
        self._execute("note_problem", {"stream": stream.name, "problem": ""})

    def _unlock(self, stream: Stream) -> None:
        self._execute("unlock_stream", {"stream": stream.name})

    def _execute(self, name: str, values: dict[str, Any]) -> list[Any]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(query(name), values)
            return list(cursor.fetchall()) if cursor.description else []


_POSITION = ("created", "sequence", "message_id")


class Beside:
    """A context manager: a receiver runs in a thread of its own, beside the block.

    *ended* is called when it ends. What ended it, if anything did, is raised at the end.
    """

    def __init__(
        self, receiver: Callable[[Shutdown], Receiver], ended: Callable[[], object]
    ) -> None:
        self._receiver, self._ended = receiver, ended
        self._shutdown = Shutdown()
        self._is_open = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="relay receiver", daemon=True)

    def _run(self) -> None:
        try:
            with self._shutdown:
                self._is_open.set()
                self._receiver(self._shutdown).run()
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            self._error = error
        finally:
            self._is_open.set()
            self._ended()

    def __enter__(self) -> None:
        self._thread.start()
        self._is_open.wait()

    def __exit__(self, *exception: object) -> None:
        self._shutdown.request()
        self._thread.join()
        if self._error is not None:
            raise self._error
