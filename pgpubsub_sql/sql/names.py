"""Names for the functions and triggers of a channel, which PostgreSQL takes without quotes."""

from __future__ import annotations

import hashlib
import re

from pgpubsub_sql.sql.quoting import MAX_NAME_BYTES

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9_]")


def object_name(prefix: str, channel: str, suffix: str = "") -> str:
    """Return a plain, lower-case name for an object of *channel*, the same in every process.

    >>> object_name("pgpubsub_", "blog.PostChanged", "_after_insert")
    'pgpubsub_blog__post_changed_after_insert'

    A name that leads back to its channel needs nothing else. All others hold a digest of the
    channel, so that channels that differ only in case or punctuation do not meet.

    >>> object_name("pgpubsub_channel_", "blog.HTTPLog")
    'pgpubsub_channel_blog__httplog_01b6317d49'
    """
    plain = _plain(channel)
    limit = MAX_NAME_BYTES - len(prefix) - len(suffix)
    if len(plain) > limit or _channel(plain) != channel:
        digest = hashlib.sha256(channel.encode()).hexdigest()[:10]
        plain = f"{plain[: limit - len(digest) - 1]}_{digest}"
    return f"{prefix}{plain}{suffix}"


def _plain(channel: str) -> str:
    words = _WORD_STARTS.sub("_", channel).lower().replace(".", "__")
    return _OTHER_CHARACTERS.sub("_", words)


def _channel(plain: str) -> str:
    """Return the one channel that *plain* belongs to without a digest."""
    label, separator, words = plain.partition("__")
    if not separator:
        return plain
    return f"{label}.{''.join(word.capitalize() for word in words.split('_'))}"
