"""Settings of the shop."""

import os

from example.relay.settings import *  # noqa: F403

INSTALLED_APPS = ["pgpubsub_sql", "example.relay.shop"]
PGPUBSUB_RELAY = {"servers": os.environ["NATS"].split(), "origin": "shop", "partitions": 2}
