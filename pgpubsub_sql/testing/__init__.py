"""The test kit: messages are captured, handled and asserted, inside Django's ``TestCase``."""

from pgpubsub_sql.testing.captures import Capture
from pgpubsub_sql.testing.messages import Message, Sent
from pgpubsub_sql.testing.mixin import PubSubTestMixin
from pgpubsub_sql.testing.pubsub import PubSub

__all__ = ["Capture", "Message", "PubSub", "PubSubTestMixin", "Sent"]
