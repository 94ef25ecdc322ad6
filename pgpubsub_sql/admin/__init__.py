"""The pages of Django's admin. Another site than the default one registers these classes itself."""

from django.contrib import admin

from pgpubsub_sql.admin.notifications import NotificationAdmin
from pgpubsub_sql.models import Notification

__all__ = ["NotificationAdmin"]

admin.site.register(Notification, NotificationAdmin)
