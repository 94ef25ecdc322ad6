"""Who receives it: one listener fails now and then, one is slow."""

import smtplib
import time

import pgpubsub_sql
from example.blog.models import Author
from example.news.channels import Digest, Welcomes

DIGEST_SECONDS = 5.0


@pgpubsub_sql.post_insert_listener(Welcomes)
def send_welcome(new: Author) -> None:
    """Mail is down for one domain."""
    if new.bio.endswith("@example.net"):
        raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed: mail.example.net")


@pgpubsub_sql.listener(Digest)
def make_digest(number: int) -> None:
    """Take long."""
    time.sleep(DIGEST_SECONDS)
