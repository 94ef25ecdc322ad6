from django.db import models


class Order(models.Model):
    name = models.TextField()


class Mail(models.Model):
    text = models.TextField()
