from django.apps import AppConfig


class ConditionsConfig(AppConfig):
    """The models of the conditions. It has no migrations, so the test runner creates its tables."""

    name = "tests.conditions"
    label = "conditions"
    default_auto_field = "django.db.models.BigAutoField"
