"""All errors that this package raises on purpose.

::

    PubSubError
    ├── ChannelNotFound        fix the name: no declared channel has it
    ├── PayloadError           fix the data: it does not fit the channel's fields
    ├── ListenerError          fix the listener: it broke the transaction of its message
    │   ├── ListenerTimeout    make it faster, or its channel's timeout longer
    │   └── WorkerDied         find out why: out of memory, a crash in C, os._exit()
    ├── TransactionRequired    open a transaction: the call needs one
    ├── TemplateError          a bug in a .sql template or its caller
    ├── OptionError            fix the channel: an option does not fit its model or its use
    ├── ConditionError         fix the condition: it cannot become SQL in a trigger
    ├── NotReady               fix the deployment: server, driver or migrations
    │   └── NotReadyYet        wait: it is to be migrated, or promoted, or writable again
    ├── RelayError             what the relay runs into, beyond PostgreSQL
    │   ├── BrokerUnavailable  wait: the broker is down, busy, or has no leader
    │   ├── BrokerRefused      fix the broker's configuration, or the relay's
    │   └── StreamBroken       decide: a stream no longer continues where it was left
    ├── WrongPlace             start the worker elsewhere: it is in another database or schema
    └── ServerError            the embedded PostgreSQL cannot be found or started

Errors of Django and of the database driver pass through unwrapped.
"""

from __future__ import annotations


class PubSubError(Exception):
    """Base class: catch this to catch everything below."""


class ChannelNotFound(PubSubError, LookupError):
    """No declared channel has this name."""


class PayloadError(PubSubError, ValueError):
    """What was sent or received does not fit the fields of its channel."""


class ListenerError(PubSubError):
    """A listener broke the transaction of its message."""


class ListenerTimeout(ListenerError):
    """A listener took longer than the timeout of its channel."""


class WorkerDied(ListenerError):
    """A worker died while it handled a message, and left no other explanation."""

    def __init__(self) -> None:
        super().__init__(
            "The worker died while it handled this notification, and no other. It ran out of "
            "memory, crashed, was killed by a signal, or lost its connection. Look for the cause "
            "in the logs of the worker and of the system."
        )


class TransactionRequired(PubSubError, RuntimeError):
    """This call needs an open transaction, and none is open."""


class TemplateError(PubSubError):
    """A template and the values given for it do not match."""


class OptionError(PubSubError, ValueError):
    """An option of a channel does not fit its model or its listeners, or forbids this call."""


class ConditionError(PubSubError, ValueError):
    """A channel's condition cannot become SQL in a trigger."""


class NotReady(PubSubError):
    """The database, or the project, is not set up for channels."""


class NotReadyYet(NotReady):
    """The database lacks our tables, or takes no writes now; a worker waits for that to change."""


class RelayError(PubSubError):
    """The relay cannot go on."""


class BrokerUnavailable(RelayError):
    """The broker cannot be reached, or cannot do what it is asked to now."""


class BrokerRefused(RelayError):
    """The broker refuses what it is asked to, for a reason that no waiting changes."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number
        """JetStream's ``err_code``; 0 if it gave none."""


class StreamBroken(RelayError):
    """A stream does not continue where its receiver has left it, so messages may be lost."""


class WrongPlace(PubSubError):
    """A worker's connection leads to another database or schema than its command's did."""


class ServerError(PubSubError):
    """The embedded PostgreSQL cannot be found, started or reached."""


_SHOWN = 250
"""Characters shown of each end of a long error message: it may quote all of a huge payload."""


def brief(error: object) -> str:
    """Return the message of *error*, short enough for a log line."""
    message = str(error)
    if len(message) <= 3 * _SHOWN:
        return message
    return f"{message[:_SHOWN]}… ({len(message)} characters) …{message[-_SHOWN:]}"
