"""Names that the relay has on the broker, and the partition that a message belongs to.

A stream holds the messages of one origin, channel, generation and partition, so that its sequence
has no holes. Another number of partitions makes a new generation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from functools import cached_property

PREFIX = "pgpubsub"
"""The first token of every subject."""

_SEPARATOR = "+"
"""Between the tokens of a stream's name, where the broker allows no dot."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
_TOKEN = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")
_NUMBER = re.compile(r"0|[1-9][0-9]*")


def escape(text: str) -> str:
    """Return *text* as one token of a subject.

    >>> escape("blog.PostReads")
    'blog=2EPostReads'
    """
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in text.encode())


def unescape(token: str) -> str:
    """Return the text that :func:`escape` made *token* of.

    Raises :class:`ValueError` for what it never returns.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{token!r} is no token.")
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), token).encode("latin-1").decode()
    if escape(text) != token:
        raise ValueError(f"{token!r} is no token.")
    return text


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Stream:
    """One partition of a channel, as one origin publishes it."""

    origin: str
    """Name of the publishing project."""
    channel: str
    """Name of the channel in PostgreSQL."""
    generation: int
    """Number of times that the number of partitions has changed."""
    partition: int
    """From 0 up."""

    @cached_property
    def subject(self) -> str:
        """The subject of its messages: ``pgpubsub.<origin>.<channel>.<generation>.<partition>``."""
        return ".".join(self._tokens())

    @cached_property
    def name(self) -> str:
        """Its name on the broker: the tokens of the subject, with plus signs between them."""
        return _SEPARATOR.join(self._tokens())

    def _tokens(self) -> tuple[str, ...]:
        numbers = (str(self.generation), str(self.partition))
        return (PREFIX, escape(self.origin), escape(self.channel), *numbers)

    def __str__(self) -> str:
        return self.name


def parse(name: str) -> Stream | None:
    """Return the stream that is called *name* on the broker; None if it is not one of ours."""
    prefix, *tokens = name.split(_SEPARATOR)
    if prefix != PREFIX or len(tokens) != 4 or not all(map(_NUMBER.fullmatch, tokens[2:])):
        return None
    try:
        origin, channel = map(unescape, tokens[:2])
    except ValueError:
        return None
    generation, partition = map(int, tokens[2:])
    return Stream(origin=origin, channel=channel, generation=generation, partition=partition)


def prefix(origin: str, channel: str) -> str:
    """Return how the names of all streams of a channel of one origin begin."""
    return _SEPARATOR.join((PREFIX, escape(origin), escape(channel), ""))


def every_subject(origin: str, channel: str) -> str:
    """Return the pattern of all subjects of a channel of one origin."""
    return f"{PREFIX}.{escape(origin)}.{escape(channel)}.*.*"


def partition_of(key: str | None, uuid: str, partitions: int) -> int:
    """Return the partition of a message with this ordering key, or without one.

    Messages with equal keys share one. Those without are spread by their *uuid*.
    """
    if partitions == 1:
        return 0
    digest = hashlib.sha256((uuid if key is None else key).encode()).digest()
    return int.from_bytes(digest[:8], "big") % partitions
