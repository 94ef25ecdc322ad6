"""What this migration did, the first one does."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pgpubsub", "0005_alter_notification_options")]

    operations = []
