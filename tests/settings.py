"""Settings of the tests: the example's apps, the admin, and one whose listeners keep a ledger."""

from example.settings import *  # noqa: F403
from example.settings import DATABASES, INSTALLED_APPS

ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django.contrib.admin",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tests.app",
    "tests.rows",
    "tests.conditions",
]
SILENCED_SYSTEM_CHECKS = ["fields.E210"]  # an ImageField wants Pillow; no test opens an image

# What the admin needs.
STATIC_URL = "/static/"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# A second database of the same server, made only where a test asks for it.
DATABASES["other"] = DATABASES["default"] | {"NAME": f"{DATABASES['default']['NAME']}_other"}
DATABASE_ROUTERS = ["tests.rows.routers.AtHome"]
