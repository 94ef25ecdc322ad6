"""What travels, beside the blog's own channels."""

from dataclasses import dataclass

import pgpubsub_sql
from example.blog.models import Author, Post


@dataclass
class Authors(pgpubsub_sql.TriggerChannel):
    """Durable: each change of an author is handled by one process, exactly once."""

    model = Author
    lock_notifications = True


@dataclass
class Posts(pgpubsub_sql.TriggerChannel):
    """Durable, with texts far longer than the 8 kB that a NOTIFY holds."""

    model = Post
    lock_notifications = True


@dataclass
class PostsLive(pgpubsub_sql.TriggerChannel):
    """Ephemeral: each process that listens hears of every change, long texts included."""

    model = Post


@dataclass
class Tagged(pgpubsub_sql.Channel):
    """Durable, and sent by notify() or by ``SELECT pgpubsub_notify(…)``."""

    package: str
    tag: str
    lock_notifications = True
