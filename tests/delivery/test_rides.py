"""What a message that queries costs in round trips, and what the shortcuts must not break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from pgpubsub_sql.django_internals import CURSOR, is_psycopg3
from pgpubsub_sql.worker import cursors, statements
from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.listeners import called, execute, fail, note
from tests.app.models import Entry
from tests.delivery.channels import Hasty
from tests.delivery.sending import drain, jobs, warm_up
from tests.ledger import calls, numbers, sql, stored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the driver is asked to execute, ours included: one round trip each."""

    class Recording(CURSOR):  # type: ignore[misc]
        def execute(self, statement: object, *arguments: object, **options: object) -> object:
            seen.append(" ".join(str(statement).split()))
            return super().execute(statement, *arguments, **options)

    seen: list[str] = []
    jobs("good")
    warm_up(delivery)
    called.clear()
    raw = connection.connection
    monkeypatch.setattr(cursors, "CURSOR", Recording)
    factory = raw.cursor_factory
    raw.cursor_factory = Recording
    yield seen
    raw.cursor_factory = factory


@pytest.fixture
def mood(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Say what messages in the mood "do" do; it is all that they ask of the database."""

    def say(behaviour: Callable[[], object]) -> None:
        monkeypatch.setattr(listeners, "SILENT", ("do",))
        monkeypatch.setitem(listeners.MOODS, "do", behaviour)

    return say


Mood = Callable[[Callable[[], object]], None]


def select(text: str, *parameters: object) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        assert not is_psycopg3 or cursor.nextset() is None
        return list(cursor.fetchall())


# --- Round trips


def test_a_savepoint_is_issued_only_for_messages_that_query(
    delivery: Delivery, sent: list[str]
) -> None:
    """Take, verify, and nothing else: a savepoint costs many times such a message."""
    jobs(*["quiet"] * 10)
    sent.clear()
    delivery.handle_stored("app.Job")
    assert [one[:25] for one in sent] == ["SELECT * FROM pg_temp.pgp", "SELECT pg_current_xact_id"]


def test_a_message_costs_one_round_trip_besides_its_own(
    delivery: Delivery, sent: list[str]
) -> None:
    """The savepoint rides in front of its first statement; a short check ends it."""
    jobs(*["good", "quiet"] * 5)
    sent.clear()
    delivery.handle_stored("app.Job")
    assert len(sent) == 1 + 5 * 2 + 1  # take, two for each that inserts, verify
    assert sent[1].startswith('SAVEPOINT pgpubsub; INSERT INTO "app_entry"')
    assert sent[2] == (
        "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; RELEASE SAVEPOINT pgpubsub"
    )


def test_a_statement_that_is_new_does_not_ride(
    delivery: Delivery, sent: list[str], mood: Mood
) -> None:
    """Nor does what is not plain; and what may have changed settings has them restored."""
    mood(lambda: execute("SELECT 7 AS new, pg_sleep(0)"))
    jobs("do", "do")
    sent.clear()
    delivery.handle_stored("app.Job")
    first, second = sent[1:4], sent[4:6]
    assert first[:2] == ["SAVEPOINT pgpubsub", "SELECT 7 AS new, pg_sleep(0)"]
    assert second[0] == "SAVEPOINT pgpubsub; SELECT 7 AS new, pg_sleep(0)"
    assert first[2] == second[1]
    assert "SET SESSION statement_timeout" in first[2]


def test_a_block_of_the_listener_rides(delivery: Delivery, sent: list[str], mood: Mood) -> None:
    def write_in_a_block() -> None:
        with transaction.atomic():
            note("in a block")

    mood(write_in_a_block)
    jobs("do")
    sent.clear()
    delivery.handle_stored("app.Job")
    assert [one.split('"')[0] for one in sent[1:4]] == [
        "SAVEPOINT pgpubsub; SAVEPOINT ",
        "INSERT INTO ",
        "RELEASE SAVEPOINT ",
    ]


# --- What others see


def test_wrappers_and_the_log_of_queries_see_the_statement_alone(
    delivery: Delivery, mood: Mood
) -> None:
    seen: list[str] = []

    def see(call: Any, text: Any, *arguments: Any) -> Any:
        seen.append(text)
        return call(text, *arguments)

    def query() -> None:
        with connection.execute_wrapper(see):
            assert select("SELECT 1, %s", 2) == [(1, 2)]

    mood(query)
    jobs("do", "do")
    with CaptureQueriesContext(connection) as captured:
        drain(delivery)
    assert seen == ["SELECT 1, %s"] * 2
    logged = [one["sql"] for one in captured if one["sql"].startswith("SELECT 1, ")]
    assert logged == ["SELECT 1, 2"] * 2
    assert not [one for one in captured if "SAVEPOINT pgpubsub" in one["sql"]]


def test_a_statement_that_rides_has_its_own_result(delivery: Delivery, mood: Mood) -> None:
    found = []

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT number, 'x' FROM generate_series(1, 3) AS number")
            columns = [column[0] for column in cursor.description]
            found.append((cursor.rowcount, columns, cursor.fetchone(), cursor.fetchall()))
            cursor.execute("UPDATE app_entry SET pid = 0")
            found.append(cursor.rowcount)

    mood(query)
    note("one")
    jobs("do", "do", "do")
    drain(delivery)
    rows = (3, ["number", "?column?"], (1, "x"), [(2, "x"), (3, "x")])
    assert found == [rows, 1] * 3
    assert not stored()


# --- What fails

TWICE = "INSERT INTO app_entry (id, listener, data, pid) VALUES (1000000 + %s, 'twice', '{}', 0)"


def test_a_statement_that_fails_as_it_rides_is_undone_alone(delivery: Delivery, mood: Mood) -> None:
    """Its neighbours keep what they have done, and are not called again."""
    mood(lambda: select(f"{TWICE} RETURNING id", 7))
    jobs("good", "do", "do", "good", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3, 4, 5, 6]
    assert (numbers("do_job"), len(calls("twice"))) == ([1, 4, 6], 1)
    rows = stored()
    assert {number: row.attempts for number, row in rows.items()} == {3: 1, 5: 1}
    assert all("duplicate key" in row.last_error for row in rows.values())
    assert not any(row.alone for row in rows.values())


def test_a_failure_that_is_caught_still_fails_the_message(delivery: Delivery, mood: Mood) -> None:
    def swallow() -> None:
        with pytest.raises(IntegrityError):
            select(f"{TWICE} RETURNING id", 7)

    sql(TWICE, 7)
    statements.note_success(f"{TWICE} RETURNING id")
    mood(swallow)
    jobs("good", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3]
    assert "put what may fail into" in stored()[2].last_error


@pytest.mark.parametrize("text", ["SELEC 1", "SELECT FROM WHERE", 'INSERT INTO "app_entry" VALUES'])
def test_a_syntax_error_costs_its_neighbours_nothing(
    delivery: Delivery, mood: Mood, text: str
) -> None:
    """The server parses all of a string before it executes any: nothing unknown rides."""
    mood(lambda: execute(text))
    jobs("good", "do", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3, 4]
    assert numbers("do_job") == [1, 4]
    assert all("syntax error" in row.last_error for row in stored().values())


def test_a_syntax_error_of_what_was_proven_is_found_and_charged(
    delivery: Delivery, mood: Mood, caplog: Any
) -> None:
    """By its parameters, for example. It undoes its batch, and does not ride again."""
    text = "SELECT FROM WHERE"
    statements.note_success(text)
    mood(lambda: execute(text))
    jobs("good", "do", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 3]
    ((number, row),) = stored().items()
    assert (number, row.attempts) == (2, 1)
    assert sorted(called) == [1, 1, 2, 2, 3]
    assert "syntax error" in row.last_error
    assert not statements.is_proven(text)
    assert "rolled back the transaction" not in caplog.text


@pytest.mark.parametrize("fails", [True, False])
def test_what_the_driver_refuses_is_not_taken_for_a_savepoint(
    delivery: Delivery, mood: Mood, fails: bool
) -> None:
    """What the listener writes after that is undone with it, and its neighbours are not."""

    def write_after_a_refusal() -> None:
        with pytest.raises(Exception, match=r"object|adapt"):
            select("SELECT %s AS given", object())
        note("after a refusal")
        if fails:
            fail("after a write")

    statements.note_success("SELECT %s AS given")
    mood(write_after_a_refusal)
    jobs("good", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3]
    assert numbers("do_job") == [1, 3]
    assert len(calls("after a refusal")) == (not fails)
    assert sorted(stored()) == [2] * fails


def write_many() -> None:
    with connection.cursor() as cursor:
        cursor.executemany(TWICE, [[8], [9]])


def write_in_a_pipeline() -> None:
    if is_psycopg3:
        with connection.connection.pipeline():
            select(f"{TWICE} RETURNING id", 8)
    else:
        write_many()


def read_by_name() -> None:
    assert len(list(Entry.objects.all().iterator())) >= 1
    write_many()


def write_with_a_composed_statement() -> None:
    with connection.cursor() as cursor:
        cursor.execute(TWICE.replace("%s", "8").encode())


OTHER_WAYS = [write_many, write_in_a_pipeline, read_by_name, write_with_a_composed_statement]


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_what_cannot_ride_is_undone_as_well(
    delivery: Delivery, mood: Mood, way: Callable[[], None]
) -> None:
    """Many at a time, in a pipeline, by a cursor of the server, or in bytes."""
    statements.note_success(TWICE)
    statements.note_success(f"{TWICE} RETURNING id")

    def write() -> None:
        way()
        fail("after a write")

    mood(write)
    jobs("good", "do", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3, 4]
    assert numbers("do_job") == [1, 4]
    assert not calls("twice")
    assert all("after a write" in row.last_error for row in stored().values())


@pytest.mark.usefixtures("binding_on_the_server")
def test_nothing_rides_where_the_server_binds_parameters(
    delivery: Delivery, mood: Mood, caplog: Any
) -> None:
    """It takes one statement at a time then; each is undone with its message, as everywhere."""
    mood(lambda: select(f"{TWICE} RETURNING id", 7))
    jobs("good", "do", "do", "good")
    drain(delivery)
    assert called == [1, 2, 3, 4]
    assert (numbers("do_job"), len(calls("twice"))) == ([1, 4], 1)
    assert "duplicate key" in stored()[3].last_error
    assert "rolled back" not in caplog.text


def test_a_timeout_ends_a_statement_that_rides(delivery: Delivery, mood: Mood) -> None:
    statements.note_success("SELECT pg_sleep(60)")
    mood(lambda: execute("SELECT pg_sleep(60)"))
    jobs("good", "do", "good", channel=Hasty)
    drain(delivery, Hasty)
    assert sorted(stored()) == [2]
    assert "longer than 1 s" in stored()[2].last_error
    assert numbers("be_quick") == [1, 3]


# --- Settings that a plain query has changed

SETTER = """
    CREATE FUNCTION setter() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM set_config('statement_timeout', '7min', false); RETURN new; END
    $$;
    CREATE TRIGGER setter BEFORE INSERT ON app_entry FOR EACH ROW WHEN (new.listener = 'setter')
        EXECUTE FUNCTION setter();
"""


@pytest.fixture
def setter(transactional_db: None) -> Iterator[None]:
    sql(SETTER)
    yield
    sql("DROP TRIGGER setter ON app_entry; DROP FUNCTION setter()")


def set_unseen() -> None:
    """By a cursor that nobody sees, along with a plain query."""
    listeners.unseen_cursor().execute("SET statement_timeout = '7min'")
    note("setter")


@pytest.mark.usefixtures("setter")
@pytest.mark.parametrize("leave", [lambda: note("setter"), set_unseen])
def test_settings_that_change_unseen_are_found_and_nobody_is_trusted_again(
    delivery: Delivery,
    mood: Mood,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
    leave: Callable[[], object],
) -> None:
    """F41: nothing is committed that a neighbour did in a session that was not its own."""
    seen: list[Any] = []
    monkeypatch.setitem(listeners.MOODS, "look", lambda: seen.extend(sql("SHOW statement_timeout")))
    mood(leave)
    jobs("look", "do", "look")
    delivery.handle_stored("app.Job")
    assert seen == [("0",), ("7min",)]
    assert "A plain query of a listener has changed settings" in caplog.text
    assert "(statement_timeout)" in caplog.text
    assert not numbers("do_job")
    seen.clear()
    drain(delivery)
    assert seen == [("0",)] * 2
    jobs("look", "do", "look", "do", "look")
    drain(delivery)
    assert seen == [("0",)] * 5
    assert len(calls("setter")) == 3
    assert not stored()
    assert caplog.text.count("A plain query of a listener has changed settings") == 1


@pytest.mark.usefixtures("setter")
def test_settings_that_change_unseen_are_found_before_others_hide_it(
    delivery: Delivery, mood: Mood, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setitem(listeners.MOODS, "hide", lambda: execute("SET statement_timeout = 0"))
    mood(lambda: note("setter"))
    jobs("do", "hide", "good")
    delivery.handle_stored("app.Job")
    assert called == [1, 2]
    assert "A plain query of a listener has changed settings" in caplog.text
    drain(delivery)
    assert numbers("do_job") == [2, 3]
    assert not stored()


@pytest.mark.usefixtures("setter")
def test_a_trigger_that_changes_settings_is_no_fault_of_a_message_alone(
    delivery: Delivery, mood: Mood, caplog: Any
) -> None:
    mood(lambda: note("setter"))
    drain(delivery)
    jobs("do")
    delivery.handle_stored("app.Job")
    assert len(calls("setter")) == 1
    assert sql("SHOW statement_timeout") == [("0",)]
    assert not stored()
    assert not caplog.records


# --- Texts

PLAIN = [
    'INSERT INTO "app_entry" ("listener", "data") VALUES (%s, %s) RETURNING "app_entry"."id"',
    'INSERT INTO "odd ""schema"."a" ("b") VALUES (%s), (%s) ON CONFLICT ("b") DO NOTHING',
    'UPDATE "a" SET "b" = (%s) WHERE "a"."id" IN (%s, %s)',
    'SELECT COUNT(*) AS "__count" FROM "a" WHERE (NOT ("b" = %s) AND EXISTS(SELECT 1 AS "a"))',
    "select max (id) from a",
    'DELETE FROM "a" WHERE "a"."id" IN (%s)',
    'SAVEPOINT "s1_x2"',
    'RELEASE SAVEPOINT "s1_x2"',
]
NOT_PLAIN = [
    "SET search_path = tenant",
    "RESET ALL",
    "SELECT set_config('role', 'x', false)",
    "SELECT set_config ('role', 'x', false)",
    'SELECT "set_config"(%s, %s, false)',
    'SELECT pg_catalog."set_config" (%s, %s, false)',
    "SELECT 1; SET ROLE x",
    "UPDATE pg_settings SET setting = 'x' WHERE name = 'role'",
    'INSERT INTO "a" ("b") VALUES (set_config(%s, %s, false))',
    'INSERT INTO "a" ("b") SELECT f(1)',
    'INSERT INTO "set_config" ("b") SELECT "set_config" (%s, %s, false)',
    "DO $$ BEGIN END $$",
    "CALL p()",
    "EXECUTE prepared",
    'SAVEPOINT "a"; SET ROLE x',
    "SELECTED",
]


def test_plain_queries_are_known_by_their_text() -> None:
    assert [text for text in PLAIN if not statements.changes_no_setting(text)] == []
    assert [text for text in NOT_PLAIN if statements.changes_no_setting(text)] == []


def test_what_the_orm_executes_is_plain(django_assert_num_queries: Any) -> None:
    with CaptureQueriesContext(connection) as captured:
        note("one", number=1)
        entry = Entry.objects.filter(listener__in=["one", "two"]).exclude(pid=-1).get()
        entry.save()
        Entry.objects.filter(listener="none").update(pid=1)
        Entry.objects.bulk_create([Entry(listener="a", data={}), Entry(listener="b", data={})])
        assert Entry.objects.count() == 3
        assert Entry.objects.exists()
        entry.delete()
    assert len(captured) >= 8
    assert [
        one["sql"]
        for one in captured
        if not statements.changes_no_setting(one["sql"]) and one["sql"] not in ("BEGIN", "COMMIT")
    ] == []


def test_the_memory_for_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_proven", {})
    for number in range(statements.MOST_PROVEN + 1):
        statements.note_success(f"SELECT {number}")
    statements.note_success("SELECT " + "1" * statements.LONGEST)
    statements.note_success("VACUUM")
    assert list(statements._proven) == [f"SELECT {statements.MOST_PROVEN}"]
