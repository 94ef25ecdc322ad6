"""What travels on the site for trying out the admin."""

from dataclasses import dataclass

import pgpubsub_sql
from example.blog.models import Author


@dataclass
class Welcomes(pgpubsub_sql.TriggerChannel):
    """Each new author is to get a mail. Tried three times, within some ten seconds."""

    model = Author
    lock_notifications = True
    batch_size = 1
    retry = pgpubsub_sql.Retry(max_attempts=3, delay=2)


@dataclass
class Digest(pgpubsub_sql.Channel):
    """A digest of the news is to be made, which takes its time."""

    number: int
    lock_notifications = True
    batch_size = 1
