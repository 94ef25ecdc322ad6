"""The admin for django-unfold, whose classes a model's admin has to inherit."""

from django.contrib import admin
from django.urls import path
from unfold.admin import ModelAdmin

from pgpubsub_sql.admin import NotificationAdmin
from pgpubsub_sql.models import Notification


class UnfoldedAdmin(NotificationAdmin, ModelAdmin):
    """As a project with that theme registers it."""


admin.site.unregister(Notification)
admin.site.register(Notification, UnfoldedAdmin)
urlpatterns = [path("admin/", admin.site.urls)]
