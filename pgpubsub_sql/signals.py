"""What workers tell of, as Django's signals.

::

    @receiver(message_parked, sender=AuthorChannel)
    def call_somebody(sender, notification, error, **kwargs): ...

What a receiver raises is logged and harms nothing. Receivers run in the worker, one after another,
and what they take long for, it waits for. Take ``**kwargs``: there may be more arguments one day.
"""

from __future__ import annotations

from django.dispatch import Signal

message_received = Signal(use_caching=True)
"""A message is about to be handed to listeners, which may be an attempt of several.

*sender* is the channel; *notification* has ``id`` (None on ephemeral channels), ``channel``,
``attempts`` (those before this one) and ``created_at``, and no payload; *using* is the alias of the
database. What a receiver writes belongs to the transaction of a stored message's batch, whatever
becomes of the message.
"""

message_succeeded = Signal(use_caching=True)
"""Its listeners have returned, and what they wrote is committed.

As :data:`message_received`, and *duration* in seconds, decoding included.
"""

message_failed = Signal(use_caching=True)
"""It was not handled: a listener raised, :class:`Discard` included, or it could not be decoded.

As :data:`message_succeeded`, and *error*, *listener* (the dotted path of who was called last;
empty if nobody was), and *retry_in*, the seconds until it is tried again, or None if it is not.
*duration* is None where it cannot be known, as when the worker died, of which its supervisor tells.
"""

message_parked = Signal(use_caching=True)
"""It failed for good and waits for somebody to replay it; sent after :data:`message_failed`.

As :data:`message_received`, and *error*.
"""

worker_started = Signal()
"""A worker begins, and has not connected yet.

*sender* is the class ``Worker``; *using* the alias of the database, *channels* a list of classes.
"""

worker_stopped = Signal()
"""A worker ends, unless it is killed. As :data:`worker_started`."""

worker_reconnected = Signal()
"""A worker that had lost its LISTEN connection listens again: what was sent meanwhile on ephemeral
channels has passed it by. As :data:`worker_started`."""
