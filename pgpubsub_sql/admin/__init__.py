"""The pages of Django's admin. Another site than the default one registers these classes itself."""

from django.contrib import admin

from pgpubsub_sql.admin.channels import ChannelAdmin
from pgpubsub_sql.admin.history import HandledAdmin
from pgpubsub_sql.admin.notifications import NotificationAdmin
from pgpubsub_sql.models import Channel, Handled, Notification

__all__ = ["ChannelAdmin", "HandledAdmin", "NotificationAdmin"]

admin.site.register(Channel, ChannelAdmin)
admin.site.register(Handled, HandledAdmin)
admin.site.register(Notification, NotificationAdmin)
