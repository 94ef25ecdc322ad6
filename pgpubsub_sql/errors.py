"""Every error this package raises on purpose.

::

    PubSubError
    ├── ChannelNotFound        fix the name: no declared channel answers to it
    ├── PayloadError           fix the data: it does not fit the channel's fields
    ├── ListenerError          fix the listener: it left its transaction in no state to go on
    │   ├── ListenerTimeout    make it faster, or its channel's timeout longer
    │   └── WorkerDied         find out why: out of memory, a crash in C, os._exit()
    ├── TransactionRequired    open a transaction: the call is bound to one
    ├── TemplateError          a bug in a .sql template or its caller
    ├── OptionError            fix the channel: an option does not fit its model or its use
    ├── ConditionError         fix the condition: it cannot become SQL of a trigger
    ├── NotReady               fix the deployment: server, driver or migrations
    ├── WrongPlace             start the worker otherwise: it is in another database or schema
    └── ServerError            the embedded PostgreSQL cannot be found or started

Errors of Django and of the database driver pass through unwrapped.
"""

from __future__ import annotations


class PubSubError(Exception):
    """Base class: catch this to catch everything below."""


class ChannelNotFound(PubSubError, LookupError):
    """No declared channel answers to this name."""


class PayloadError(PubSubError, ValueError):
    """What was sent or received does not fit the fields of its channel."""


class ListenerError(PubSubError):
    """A listener left the transaction of its message in no state to go on."""


class ListenerTimeout(ListenerError):
    """A listener took longer than the timeout of its channel."""


class WorkerDied(ListenerError):
    """A worker gave up the message that it handled, and did not say why."""

    def __init__(self) -> None:
        super().__init__(
            "The worker died while it handled this notification, and no other. It ran out of "
            "memory, crashed, was killed by a signal, or lost its connection. Look into the logs "
            "of the worker and of the system for the cause."
        )


class TransactionRequired(PubSubError, RuntimeError):
    """This call is bound to a transaction, and none is open."""


class TemplateError(PubSubError):
    """A template and the values given for it do not match."""


class OptionError(PubSubError, ValueError):
    """An option of a trigger channel does not fit its model, or rules out what is asked for."""


class ConditionError(PubSubError, ValueError):
    """A channel's condition that cannot become SQL of a trigger."""


class NotReady(PubSubError):
    """The database cannot be listened to as it is set up now."""


class WrongPlace(PubSubError):
    """A worker's connection leads to another database or schema than that of its command."""


class ServerError(PubSubError):
    """The embedded PostgreSQL cannot be found, started or reached."""


KEPT = 250
"""Characters kept of each end of an error's words: they may quote all of a huge payload."""


def brief(error: object) -> str:
    """Return the words of *error*, at a length that fits into a log line."""
    words = str(error)
    if len(words) <= 3 * KEPT:
        return words
    return f"{words[:KEPT]}… ({len(words)} characters) …{words[-KEPT:]}"
