"""Settings of the demo: the example, and the app that keeps count of its messages."""

from example.settings import *  # noqa: F403
from example.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "example.demo"]
DATABASES["default"]["NAME"] = "postgres"
