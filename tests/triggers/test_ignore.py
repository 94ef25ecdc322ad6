"""Writing without anybody being told."""

from __future__ import annotations

import pytest

from pgpubsub_sql.models import LongPayload
from tests.triggers.tables import changes, sql, watch


def ignore(setting: str) -> None:
    """Say what this transaction does not want to be told of."""
    sql("SELECT set_config('pgpubsub.ignore', %s, true)", setting)


@pytest.mark.parametrize("setting", ["true", '["watched"]', '["other", "watched"]', " true "])
def test_a_transaction_that_wants_silence(table: str, setting: str) -> None:
    """T12: one setting of the transaction, whatever its statements are."""
    ignore(setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 4")
    sql("DELETE FROM watched WHERE id = 4")
    ignore("")
    sql("INSERT INTO watched VALUES (5, 'e')")
    assert changes() == ["->5e"]


def test_a_truncate_in_silence(table: str) -> None:
    """P1: before the fact and after it."""
    for name, when in (("early", "before"), ("late", "after")):
        watch("watched", channel=name, **{"before": (), "after": (), when: ("truncate",)})
    ignore("true")
    sql("TRUNCATE watched")
    assert sql("SELECT * FROM watched") == []
    assert changes() == []


BROKEN = ["", "{", "null", "false", '"watched"', '{"watched": 1}', "watched", "[" * 100_000, "[]"]


@pytest.mark.parametrize("setting", [*BROKEN, '["other"]', '["Watched"]', '[["watched"]]', "1"])
def test_what_silences_nobody(table: str, setting: str) -> None:
    """P23: neither a broken setting, nor one that means other channels."""
    ignore(setting)
    sql("INSERT INTO watched VALUES (4, 'd')")
    assert changes() == ["->4d"]


@pytest.mark.parametrize("name", ["ä \"quoted\" 'name'", "back\\slash", "100%", "a,b", "true"])
def test_names_that_json_spells_differently(table: str, name: str) -> None:
    """T8: a channel is silenced by its name, and no other."""
    watch("watched", channel=name)
    sql("SELECT set_config('pgpubsub.ignore', jsonb_build_array(%s::text)::text, true)", name)
    sql("INSERT INTO watched VALUES (4, 'd')")
    rows = sql("SELECT channel FROM pgpubsub_sql_notification")
    assert rows == [("watched",)]


def test_nothing_is_stored_for_an_ephemeral_channel(table: str) -> None:
    watch("watched", durable=False)
    ignore("true")
    sql("INSERT INTO watched VALUES (4, repeat('d', 9000))")
    assert not LongPayload.objects.exists()


def test_rows_are_written_though_nobody_is_told_before(table: str) -> None:
    """P1: a silenced trigger lets the row through, too."""
    watch("watched", channel="early", after=(), before=("insert", "update", "delete"))
    ignore("true")
    sql("INSERT INTO watched VALUES (4, 'd')")
    sql("UPDATE watched SET name = 'z' WHERE id = 1")
    sql("DELETE FROM watched WHERE id = 2")
    assert sql("SELECT * FROM watched ORDER BY id") == [(1, "z"), (3, "c"), (4, "d")]
    assert changes() == []


def test_a_channel_that_cannot_be_silenced(table: str) -> None:
    """F64: whatever the writer sets; the function does not even ask."""
    watch("watched", ignorable=False)
    watch("watched", channel="other")
    for setting in ("true", '["watched", "other"]'):
        ignore(setting)
        sql("INSERT INTO watched VALUES (4, 'd')")
        sql("DELETE FROM watched WHERE id = 4")
    assert changes() == ["->4d", "4d->"] * 2
    ((source,),) = sql("SELECT prosrc FROM pg_proc WHERE proname = 'pgpubsub_channel_watched'")
    assert "pgpubsub.ignore" not in source


def test_it_ends_with_the_transaction(transactional_db: None) -> None:
    """T12: a connection that is kept tells of the next transaction."""
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
