"""Settings of the office."""

import os

from example.relay.settings import *  # noqa: F403

INSTALLED_APPS = ["pgpubsub_sql", "example.relay.office"]
PGPUBSUB_RELAY = {"servers": os.environ["NATS"].split(), "sources": ["shop"]}
