"""The setting pgpubsub.ignore."""

from __future__ import annotations

import pytest

from pgpubsub_sql.models import LongPayload
from tests.triggers.tables import changes, sql, watch


def ignore(setting: str) -> None:
    """Set the channels that this transaction ignores."""
    sql("SELECT set_config('pgpubsub.ignore', %s, true)", setting)


@pytest.mark.parametrize("setting", ["true", '["watched"]', '["other", "watched"]', " true "])
def test_a_transaction_can_ignore_a_channel(table: str, setting: str) -> None:
    """T12: one setting of the transaction, whatever its statements are."""
    ignore(setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 4")
    sql("DELETE FROM watched WHERE id = 4")
    ignore("")
    sql("INSERT INTO watched VALUES (5, 'e')")
    assert changes() == ["->5e"]


def test_a_truncate_can_be_ignored(table: str) -> None:
    """P1: BEFORE and AFTER."""
    for name, when in (("early", "before"), ("late", "after")):
        watch("watched", channel=name, **{"before": (), "after": (), when: ("truncate",)})
    ignore("true")
    sql("TRUNCATE watched")
    assert sql("SELECT * FROM watched") == []
    assert changes() == []


BROKEN = ["", "{", "null", "false", '"watched"', '{"watched": 1}', "watched", "[" * 100_000, "[]"]


@pytest.mark.parametrize("setting", [*BROKEN, '["other"]', '["Watched"]', '[["watched"]]', "1"])
def test_broken_settings_and_other_channels_ignore_nothing(table: str, setting: str) -> None:
    """P23."""
    ignore(setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    assert changes() == ["->4d"]


@pytest.mark.parametrize("name", ["ä \"quoted\" 'name'", "back\\slash", "100%", "a,b", "true"])
def test_a_channel_whose_name_json_escapes_can_be_ignored(table: str, name: str) -> None:
    """T8: and no other channel with it."""
    watch("watched", channel=name)
    sql("SELECT set_config('pgpubsub.ignore', jsonb_build_array(%s::text)::text, true)", name)
    sql("INSERT INTO watched VALUES (4, 'd')")
    rows = sql("SELECT channel FROM pgpubsub_sql_notification")
    assert rows == [("watched",)]


def test_a_long_ephemeral_message_that_is_ignored_is_not_stored(table: str) -> None:
    watch("watched", durable=False)
    ignore("true")
    sql("INSERT INTO watched VALUES (4, repeat('d', 9000))")
    assert not LongPayload.objects.exists()


def test_an_ignored_before_trigger_lets_the_row_through(table: str) -> None:
    """P1."""
    watch("watched", channel="early", after=(), before=("insert", "update", "delete"))
    ignore("true")
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    sql("DELETE FROM watched WHERE id = 2")
    assert sql("SELECT * FROM watched ORDER BY id") == [(1, "z"), (3, "c"), (4, "d")]
    assert changes() == []


def test_a_channel_with_ignorable_false_is_not_ignored(table: str) -> None:
    """F64: its function does not read the setting."""
    watch("watched", ignorable=False)
    watch("watched", channel="other")
    for setting in ("true", '["watched", "other"]'):
        ignore(setting)
        sql("INSERT INTO watched VALUES (4, 'd')")
        sql("DELETE FROM watched WHERE id = 4")
    assert changes() == ["->4d", "4d->"] * 2
    ((source,),) = sql("SELECT prosrc FROM pg_proc WHERE proname = 'pgpubsub_channel_watched'")
    assert "pgpubsub.ignore" not in source


def test_ignoring_ends_with_the_transaction(transactional_db: None) -> None:
    """T12: the next transaction of the same connection is not ignored."""
    sql("CREATE TABLE brief (id integer)")
    try:
        watch("brief")
        sql("BEGIN")
        ignore("true")
        sql("INSERT INTO brief VALUES (1)")
        sql("COMMIT")
        sql("INSERT INTO brief VALUES (2)")
        assert changes() == ["->2"]
    finally:
        sql("DROP TABLE brief")
        sql('DROP FUNCTION "pgpubsub_channel_watched"')
