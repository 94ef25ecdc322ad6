"""The admin for django-unfold, whose classes a model's admin has to inherit."""

from django.contrib import admin
from django.urls import path
from unfold.admin import ModelAdmin

from pgpubsub_sql.admin import ChannelAdmin, NotificationAdmin
from pgpubsub_sql.models import Channel, Notification


class UnfoldedAdmin(NotificationAdmin, ModelAdmin):
    """As a project with that theme registers it."""


class UnfoldedChannels(ChannelAdmin, ModelAdmin):
    """The same for the page of channels."""


admin.site.unregister([Channel, Notification])
admin.site.register(Notification, UnfoldedAdmin)
admin.site.register(Channel, UnfoldedChannels)
urlpatterns = [path("admin/", admin.site.urls)]
