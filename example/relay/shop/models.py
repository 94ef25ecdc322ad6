"""What the shop knows to be committed."""

from django.db import models


class Placed(models.Model):
    """An order that was placed, in the transaction that sent it."""

    customer = models.TextField()
    number = models.IntegerField()

    class Meta:
        app_label = "shop"
