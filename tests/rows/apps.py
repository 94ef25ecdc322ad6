from django.apps import AppConfig


class RowsConfig(AppConfig):
    """Models whose rows are hard to decode; without migrations, so that tests create the tables."""

    name = "tests.rows"
    label = "rows"
    default_auto_field = "django.db.models.BigAutoField"
