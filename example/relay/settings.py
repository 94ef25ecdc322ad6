"""What the settings of both projects have in common. libpq's variables say where PostgreSQL is."""

SECRET_KEY = "an example keeps no secrets"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
