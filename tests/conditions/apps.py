from django.apps import AppConfig


class ConditionsConfig(AppConfig):
    """Models that conditions are about; without migrations, so that tests create the tables."""

    name = "tests.conditions"
    label = "conditions"
    default_auto_field = "django.db.models.BigAutoField"
