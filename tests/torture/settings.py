"""Settings of the torture: the tests' app for its listeners' moods, and the app of the ledger."""

from example.settings import *  # noqa: F403
from example.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.app", "tests.torture"]

# Its app has no migrations on purpose: migrate makes its tables and installs its triggers.
SILENCED_SYSTEM_CHECKS = ["pgpubsub_sql.W002"]
