"""Django signals that workers send.

::

    @receiver(message_parked, sender=AuthorChannel)
    def call_somebody(sender, notification, error, **kwargs): ...

Errors of receivers are logged and have no other effect. Receivers run in the worker, one after
another, and the worker waits for them. Accept ``**kwargs``, because arguments may be added.
"""

from __future__ import annotations

from django.dispatch import Signal

message_received = Signal(use_caching=True)
"""A message is about to be handled. Each further attempt sends this again.

*sender* is the channel. *notification* has ``id`` (None on ephemeral channels), ``channel``,
``attempts`` (the number before this one) and ``created_at``, but no payload. *using* is the alias
of the database. For a stored message, what a receiver writes is part of the batch's transaction,
whatever becomes of the message.
"""

message_succeeded = Signal(use_caching=True)
"""All listeners of a message have returned, and what they wrote is committed.

Arguments are those of :data:`message_received`, and *duration* in seconds, including decoding.
"""

message_failed = Signal(use_caching=True)
"""A message was not handled: a listener raised, even :class:`Discard`, or decoding failed.

Arguments are those of :data:`message_succeeded`, and *error*, *listener* (the dotted path of the
one called last; empty if none was), and *retry_in* (seconds until the next attempt; None if there
is none). *duration* is None if it cannot be known, for example because the worker died.
"""

message_parked = Signal(use_caching=True)
"""A message failed for good, and is kept until somebody replays or discards it.

This follows :data:`message_failed`. Arguments are those of :data:`message_received`, and *error*.
"""

worker_started = Signal()
"""A worker starts, and has not connected yet.

*sender* is the class ``Worker``, *using* the alias of the database, *channels* a list of classes.
"""

worker_stopped = Signal()
"""A worker ends, unless it is killed. Arguments are those of :data:`worker_started`."""

worker_reconnected = Signal()
"""A worker that had lost its LISTEN connection listens again. It has missed what was sent meanwhile
on ephemeral channels. Arguments are those of :data:`worker_started`."""
