"""The test kit: messages are captured, handled and asserted, inside Django's ``TestCase``."""

from pgpubsub_sql.testing.captures import Capture
from pgpubsub_sql.testing.handling import Call, Handled, HandledMessage
from pgpubsub_sql.testing.messages import Message, Sent
from pgpubsub_sql.testing.mixin import PubSubTestMixin
from pgpubsub_sql.testing.pubsub import PubSub

__all__ = [
    "Call",
    "Capture",
    "Handled",
    "HandledMessage",
    "Message",
    "PubSub",
    "PubSubTestMixin",
    "Sent",
]
