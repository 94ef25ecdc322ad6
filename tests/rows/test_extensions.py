"""Types of extensions, which embedded servers do not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.postgres import signals
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tests.rows.models import Words
from tests.rows.strategies import TEXT, arrays, property_test
from tests.rows.support import assert_same, execute, new, sent, watch_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def words(db: None) -> Iterator[type[Words]]:
    """A table with columns of extension types; embedded servers do not bring these."""
    available = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('citext', 'hstore')"
    if execute(available) < 2:
        pytest.skip("this server does not bring the extensions citext and hstore")
    execute("CREATE EXTENSION IF NOT EXISTS citext")
    execute("CREATE EXTENSION IF NOT EXISTS hstore")
    _register_types()
    with connection.schema_editor() as editor:
        editor.create_model(Words)
    watch_model(Words)
    yield Words
    _register_types(forget=True)


def _register_types(*, forget: bool = False) -> None:
    signals.get_hstore_oids.cache_clear()
    signals.get_citext_oids.cache_clear()
    if not forget:
        signals.register_type_handlers(connection)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("folded", "Größe"),
        ("array_folded", ["A", "b,c"]),
        ("store", {}),
        ("store", {"a": "1", "b": None, 'c"\\=>': "☃ NULL"}),
        ("array_store", [{"a": None}, None, {}]),
    ],
)
def test_extension_types_equal_a_querysets(
    words: type[Words], name: str, value: Any, django_assert_num_queries: Any
) -> None:
    words.objects.create(**{name: value})
    raw, fetched = sent(words), words.objects.get()
    with django_assert_num_queries(0):
        decoded = new(words, raw)
    assert_same(decoded, fetched)
    assert getattr(fetched, name) == value


STORES = st.dictionaries(TEXT, st.none() | TEXT, max_size=4)


@property_test
@given(folded=TEXT, texts=st.lists(TEXT, max_size=3), store=STORES, stores=arrays(STORES))
def test_any_value_of_an_extension_type_equals_a_querysets(
    words: type[Words], folded: str, texts: list[str], store: Any, stores: Any
) -> None:
    words.objects.all().delete()
    words.objects.create(folded=folded, array_folded=texts, store=store, array_store=stores)
    assert_same(new(words, sent(words)), words.objects.get())
