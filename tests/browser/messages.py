"""Messages as an outage leaves them."""

from __future__ import annotations

import datetime

from django.utils import timezone

from pgpubsub_sql.models import Notification
from tests.app.channels import Step
from tests.stored import NAME

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/shop/mail/listeners.py", line 12, in send_mail
    server.send_message(message)
smtplib.SMTPServerDisconnected: Connection unexpectedly closed
"""


def outage(number: int) -> None:
    """Store so many messages that a mail server's outage has parked, and a few others."""
    now = timezone.now()
    Notification.objects.bulk_create(
        Notification(
            channel=NAME,
            payload={"number": one, "$context": {"user": "Zoë"}},
            available_at=None if one % 3 else now + datetime.timedelta(minutes=one % 90 + 1),
            attempts=10 if one % 3 else 4,
            last_error=TRACEBACK,
            reason="smtplib.SMTPServerDisconnected",
            failed_at=now - datetime.timedelta(minutes=one % 50 + 5),
        )
        for one in range(number)
    )
    Notification.objects.create(
        channel=Step.postgres_name(),
        payload={"account": "acme", "number": 1},
        available_at=None,
        attempts=3,
        last_error="Traceback (most recent call last):\n  …\nKeyError: 'rate'\n",
        reason="KeyError",
        failed_at=now - datetime.timedelta(days=2),
        key='["acme"]',
    )
