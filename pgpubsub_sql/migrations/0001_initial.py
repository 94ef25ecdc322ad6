"""The tables, and the functions that every channel shares."""

from django.db import migrations, models
from django.db.models.functions import Coalesce

from pgpubsub_sql.migrations_ops.shared_operations import (
    CreateCounters,
    CreateHistory,
    CreateHelper,
    CreateIsNotified,
    CreateSecret,
    CreateSubscriptions,
    TuneAutovacuum,
)
from pgpubsub_sql.payloads.stored import PayloadDecoder


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LongPayload",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("payload", models.JSONField(decoder=PayloadDecoder)),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
            options={"required_db_vendor": "postgresql"},
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("channel", models.CharField(max_length=63)),
                ("subscription", models.CharField(blank=True, db_default="", max_length=63)),
                ("message", models.BigIntegerField(blank=True, null=True)),
                ("payload", models.JSONField(decoder=PayloadDecoder)),
                (
                    "created_at",
                    models.DateTimeField(db_default=models.Func(function="clock_timestamp")),
                ),
                (
                    "available_at",
                    models.DateTimeField(
                        blank=True, db_default=models.Func(function="clock_timestamp"), null=True
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.IntegerField(db_default=0)),
                ("unreadable", models.IntegerField(db_default=0)),
                ("last_error", models.TextField(blank=True, db_default="")),
                ("reason", models.CharField(blank=True, db_default="", max_length=200)),
                ("failed_at", models.DateTimeField(blank=True, null=True)),
                ("key", models.TextField(blank=True, null=True)),
                ("alone", models.BooleanField(db_default=False)),
            ],
            options={
                "verbose_name": "message",
                "verbose_name_plural": "messages",
                "ordering": ("id",),
                "default_permissions": ("view",),
                "permissions": (
                    ("view_payload", "Can view payload, context and error of messages"),
                    ("replay", "Can replay and retry messages"),
                    ("discard", "Can discard messages"),
                ),
                "required_db_vendor": "postgresql",
                "indexes": [
                    models.Index(
                        condition=models.Q(("available_at__isnull", False)),
                        fields=["channel", "subscription", "alone", "available_at", "id"],
                        name="pgpubsub_sql_available",
                    ),
                    models.Index(
                        models.F("channel"),
                        models.F("subscription"),
                        models.F("key"),
                        Coalesce("message", "id"),
                        condition=models.Q(("available_at__isnull", False), ("key__isnull", False)),
                        name="pgpubsub_sql_key",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("available_at__isnull", True),
                            ("failed_at__isnull", False),
                            _connector="OR",
                        ),
                        fields=["channel", "subscription", "id"],
                        include=["available_at", "reason", "failed_at", "attempts"],
                        name="pgpubsub_sql_failed",
                    ),
                    models.Index(
                        models.F("channel"),
                        Coalesce("message", "id"),
                        condition=models.Q(
                            ("available_at__isnull", False), ("subscription", "relay")
                        ),
                        name="pgpubsub_sql_outbox",
                    ),
                ],
            },
        ),
        TuneAutovacuum(),
        migrations.CreateModel(
            name="Channel",
            fields=[],
            options={
                "verbose_name": "channel",
                "verbose_name_plural": "channels",
                "default_permissions": ("view",),
                "permissions": (("pause", "Can pause and resume channels"),),
                "required_db_vendor": "postgresql",
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("pgpubsub_sql.notification",),
        ),
        migrations.CreateModel(
            name="InFlight",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("session", models.IntegerField()),
                ("host", models.TextField()),
                ("process", models.IntegerField()),
                ("channel", models.CharField(max_length=63)),
                ("message", models.BigIntegerField(null=True)),
                ("listener", models.TextField()),
                ("since", models.DateTimeField()),
            ],
            options={"default_permissions": (), "required_db_vendor": "postgresql"},
        ),
        CreateSubscriptions(),
        CreateCounters(),
        migrations.CreateModel(
            name="Position",
            fields=[
                ("stream", models.TextField(primary_key=True, serialize=False)),
                ("created", models.TextField()),
                ("sequence", models.BigIntegerField()),
                ("message_id", models.TextField(blank=True, null=True)),
                ("problem", models.TextField(blank=True, db_default="")),
                (
                    "moved_at",
                    models.DateTimeField(db_default=models.Func(function="clock_timestamp")),
                ),
            ],
            options={"default_permissions": (), "required_db_vendor": "postgresql"},
        ),
        migrations.CreateModel(
            name="Inbox",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "arrived_at",
                    models.DateTimeField(db_default=models.Func(function="clock_timestamp")),
                ),
            ],
            options={
                "default_permissions": (),
                "required_db_vendor": "postgresql",
                "indexes": [models.Index(fields=["arrived_at"], name="pgpubsub_sql_arrived")],
            },
        ),
        migrations.CreateModel(
            name="Handled",
            fields=[
                ("slot", models.SmallIntegerField()),
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("channel", models.CharField(max_length=63)),
                ("subscription", models.CharField(blank=True, max_length=63)),
                ("message", models.BigIntegerField()),
                ("key", models.TextField(blank=True, null=True)),
                ("payload", models.JSONField(decoder=PayloadDecoder)),
                ("created_at", models.DateTimeField()),
                ("handled_at", models.DateTimeField()),
                ("kept_until", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("handled", "handled"),
                            ("discarded", "discarded"),
                            ("expired", "expired"),
                        ],
                        max_length=10,
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                ("attempts", models.IntegerField()),
                ("duration", models.FloatField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("batch", models.BigIntegerField()),
                ("bucket", models.BigIntegerField()),
                ("id_bucket", models.BigIntegerField()),
                ("is_unusual", models.BooleanField()),
            ],
            options={
                "verbose_name": "kept message",
                "verbose_name_plural": "history",
                "default_permissions": ("view",),
                "managed": False,
                "ordering": ("bucket", "message", "id"),
                "required_db_vendor": "postgresql",
            },
        ),
        CreateHistory(),
        CreateHelper("context_v1", "pgpubsub_context_v1()"),
        CreateHelper("ignored_v1", "pgpubsub_ignored_v1(text)"),
        CreateHelper("bucket_v1", "pgpubsub_bucket_v1(text)"),
        CreateIsNotified(),
        CreateHelper("must_notify", "pgpubsub_must_notify(text)"),
        CreateHelper("key_v1", "pgpubsub_key_v1(jsonb)"),
        CreateHelper("store_v1", "pgpubsub_store_v1(text, jsonb, timestamptz, timestamptz, jsonb)"),
        CreateHelper("notify", "pgpubsub_notify(text, jsonb)"),
        CreateSecret(),
        CreateHelper("send_v1", "pgpubsub_send_v1(text, jsonb)"),
        CreateHelper("publish_v1", "pgpubsub_publish_v1(text, jsonb)"),
        CreateHelper(
            "notify_many_v1", "pgpubsub_notify_many_v1(text[], jsonb[], boolean[], jsonb[])"
        ),
        CreateHelper("forget_v1", "pgpubsub_forget_v1(integer)"),
    ]
