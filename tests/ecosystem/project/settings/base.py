"""What a project has without any of the packages."""

import os

SECRET_KEY = "for trying only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "pgpubsub_sql",
    "shop",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
    }
}


def is_in_use(connection):
    """Whether the package sees to this connection: to run beside nothing would prove nothing."""
    return True


def leave_behind(connection):
    """Leave something in the process that must not meet the next message."""


def of_this_tenant(callback):
    """Return what to give to on_commit(), though the listener may turn to another tenant."""
    return callback
