"""What the office has handled."""

from django.db import models


class Taken(models.Model):
    """An order that was handled; the ids are in the order of handling."""

    customer = models.TextField()
    number = models.IntegerField()

    class Meta:
        app_label = "office"
