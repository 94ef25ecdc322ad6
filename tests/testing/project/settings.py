"""A project that uses the test kit, with two databases and a mirror of the first."""

SECRET_KEY = "a trial keeps no secrets"
USE_TZ = True
INSTALLED_APPS = ["pgpubsub_sql", "shop"]
_DATABASE = {"ENGINE": "django.db.backends.postgresql", "NAME": "trial"}
DATABASES = {
    "default": _DATABASE,
    "other": _DATABASE | {"NAME": "trial_other"},
    "replica": _DATABASE | {"TEST": {"MIRROR": "default"}},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEST_NON_SERIALIZED_APPS = ["pgpubsub_sql"]
