"""Settings of the tests: the example's apps, and one whose listeners keep a ledger."""

from example.settings import *  # noqa: F403
from example.settings import DATABASES, INSTALLED_APPS

ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django.contrib.postgres",
    "tests.app",
    "tests.rows",
    "tests.conditions",
]
SILENCED_SYSTEM_CHECKS = ["fields.E210"]  # an ImageField wants Pillow; no test opens an image

# A second database of the same server, made only where a test asks for it.
DATABASES["other"] = DATABASES["default"] | {"NAME": f"{DATABASES['default']['NAME']}_other"}
DATABASE_ROUTERS = ["tests.rows.routers.AtHome"]
