from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model

from tests.rows.support import watch_model


def tables() -> list[type[Model]]:
    """The models that have a table of their own."""
    models = apps.get_app_config("rows").get_models(include_auto_created=True)
    return [model for model in models if model._meta.managed and not model._meta.proxy]


@pytest.fixture(scope="package", autouse=True)
def triggers(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Real triggers on every table of this app, for as long as its tests last."""
    with django_db_blocker.unblock(), transaction.atomic():
        for model in tables():
            watch_model(model)
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'DROP FUNCTION ' || oid::regprocedure || ' CASCADE' FROM pg_proc"
            " WHERE proname LIKE 'pgpubsub_channel_rows_%'"
        )
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)
