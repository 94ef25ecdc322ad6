"""The pages of Django's admin. Another site than the default one registers these classes itself."""

from django.contrib import admin

from pgpubsub_sql.admin.channels import ChannelAdmin
from pgpubsub_sql.admin.notifications import NotificationAdmin
from pgpubsub_sql.models import Channel, Notification

__all__ = ["ChannelAdmin", "NotificationAdmin"]

admin.site.register(Channel, ChannelAdmin)
admin.site.register(Notification, NotificationAdmin)
