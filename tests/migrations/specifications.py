"""Specifications and operations that tests share."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from pgpubsub_sql.sql.trigger import Trigger

INSERTS = Trigger(channel="app.Test", model="app.item", after=("insert",), durable=True)
SAVES = dataclasses.replace(INSERTS, after=("insert", "update"))
DELETES = dataclasses.replace(INSERTS, after=("delete",))
OTHER = dataclasses.replace(INSERTS, channel="app.Other")


def renamed(trigger: Trigger, model: str = "app.thing") -> Trigger:
    return dataclasses.replace(trigger, model=model)


def said(*operations: Operation) -> list[tuple[str, list[Any], dict[str, Any]]]:
    return [operation.deconstruct() for operation in operations]


CREATE = migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True))])
CREATE_THING = migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))])
RENAME = migrations.RenameModel("Item", "Thing")
