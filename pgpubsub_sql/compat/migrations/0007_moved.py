"""The model is gone. Its table stays until ``pgpubsub adopt --drop``."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pgpubsub", "0006_payload_stores_proper_jsonb")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel(name="Notification")],
        ),
    ]
