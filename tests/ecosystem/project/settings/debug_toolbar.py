"""django-debug-toolbar, which records the queries of every request."""

from .base import *

DEBUG = True
ROOT_URLCONF = "settings.debug_toolbar_urls"
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "debug_toolbar",
]
STATIC_URL = "/static/"
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": "settings.debug_toolbar.is_shown"}


def is_shown(request):
    return True


def is_in_use(connection):
    """Whether queries are recorded, as DEBUG asks for; the toolbar itself sees requests alone."""
    return connection.queries_logged
