"""Settings of a project that receives jobs from elsewhere, or publishes them; RELAY says which."""

import json
import os

from tests.settings import *  # noqa: F403

PGPUBSUB_RELAY = json.loads(os.environ["RELAY"])
INSTALLED_APPS = [*INSTALLED_APPS, "tests.relay.receiving"]  # noqa: F405
