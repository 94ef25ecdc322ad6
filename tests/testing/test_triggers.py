"""assert_triggers_installed()."""

from __future__ import annotations

import pytest
from django.db import connections

from pgpubsub_sql.testing import assert_triggers_installed
from tests.ledger import sql

pytestmark = pytest.mark.django_db


def test_a_migrated_database_is_in_order() -> None:
    assert_triggers_installed(using="default")


def test_a_difference_is_told_with_its_remedy() -> None:
    sql("ALTER TABLE blog_author DISABLE TRIGGER USER")
    with pytest.raises(AssertionError, match=r"blog.AuthorChannel .*pgpubsub enable"):
        assert_triggers_installed(using="default")


@pytest.mark.django_db(databases=["default", "other"])
def test_each_database_is_looked_at() -> None:
    assert_triggers_installed()
    connections["other"].cursor().execute("ALTER TABLE blog_author DISABLE TRIGGER USER")
    with pytest.raises(AssertionError, match=r"pgpubsub enable .*--database other"):
        assert_triggers_installed()
