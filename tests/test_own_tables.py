"""The description of our tables is true."""

from __future__ import annotations

import pytest
from django.db import connection

from pgpubsub_sql.migrations_ops.shared_faults import find_faults
from pgpubsub_sql.sql.own_tables import TABLES


@pytest.mark.django_db
def test_a_migrated_database_has_no_fault() -> None:
    """F1: what our migrations make is what is compared."""
    assert find_faults(connection, "public") == []


@pytest.mark.django_db
def test_every_table_of_ours_is_described() -> None:
    assert {*TABLES} == {
        name for name in connection.introspection.table_names() if name.startswith("pgpubsub_sql")
    }
