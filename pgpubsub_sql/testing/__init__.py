"""The test kit: messages are captured, handled and asserted, inside Django's ``TestCase``."""

from pgpubsub_sql.testing.captures import Capture
from pgpubsub_sql.testing.handling import Call, Handled, HandledMessage
from pgpubsub_sql.testing.live import LiveWorker
from pgpubsub_sql.testing.messages import Message, Sent
from pgpubsub_sql.testing.mixin import PubSubTestMixin
from pgpubsub_sql.testing.pubsub import PubSub
from pgpubsub_sql.testing.triggers import assert_triggers_installed

__all__ = [
    "Call",
    "Capture",
    "Handled",
    "HandledMessage",
    "LiveWorker",
    "Message",
    "PubSub",
    "PubSubTestMixin",
    "Sent",
    "assert_triggers_installed",
]
