"""Settings of the site that the browser visits: those of the tests, with a theme if wanted."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

THEME = os.environ.get("ADMIN_THEME")
"""An app with a theme of the admin; none for Django's own, under a strict policy."""

DATABASES = {
    "default": DATABASES["default"]
}  # the other one is made only for tests that ask for it
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.browser.urls" if THEME == "unfold" else "tests.urls"
INSTALLED_APPS = [*([THEME] if THEME else []), *INSTALLED_APPS]
MIDDLEWARE = [*MIDDLEWARE, *([] if THEME else ["tests.browser.policy.strict"])]
