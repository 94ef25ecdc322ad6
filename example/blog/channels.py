"""What travels."""

import datetime
from dataclasses import dataclass

import pgpubsub_sql
from example.blog.models import Author


@dataclass
class PostReads(pgpubsub_sql.Channel):
    """Somebody read a post. Sent by notify() or by SQL; whoever listens now hears it."""

    model_id: int
    date: datetime.date
    source: str | None = None


@dataclass
class AuthorChannel(pgpubsub_sql.TriggerChannel):
    """Authors come, change and go. Sent by the database; each change is handled exactly once."""

    model = Author
    lock_notifications = True
