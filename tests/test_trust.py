"""Roles that may do nothing but connect: what they can send, read, mute and hinder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from pgpubsub_sql import Notification, notify
from pgpubsub_sql.migrations_ops.declared_triggers import specify
from pgpubsub_sql.migrations_ops.shared_operations import CreateHelper
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.models import LongPayload
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.worker import signatures
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.raw_notifies import RawNotifies
from pgpubsub_sql.worker.signatures import SignatureCheck
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel, ItemNews, Job, Place, Shout, Step
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.ledger import calls, numbers, sql, stranger
from tests.workers import connected, fall_asleep

pytestmark = pytest.mark.django_db(transaction=True)

NEWS = ItemNews.postgres_name()
FORGED = json.dumps(
    {
        "op": "INSERT",
        "when": "AFTER",
        "old": None,
        "new": {"id": 666, "name": "forged"},
        "context": {"user": "root"},
    }
)


@pytest.fixture
def worker() -> Iterator[Worker]:
    with connected(Job, Shout, ItemChannel, ItemNews) as worker:
        worker._poll()
        worker._look_ahead()
        yield worker


@pytest.fixture
def role() -> Iterator[str]:
    """A role that may do nothing but connect."""
    sql("CREATE ROLE pgpubsub_stranger")
    yield "pgpubsub_stranger"
    sql("DROP OWNED BY pgpubsub_stranger")
    sql("DROP ROLE pgpubsub_stranger")


@contextmanager
def session(role: str) -> Iterator[Any]:
    """A cursor of a session of this role."""
    with stranger() as cursor:
        cursor.execute(f"SET SESSION AUTHORIZATION {role}")
        yield cursor


@pytest.fixture
def forger(role: str) -> Iterator[Any]:
    with session(role) as cursor:
        yield cursor


def pid_of(cursor: Any) -> int:
    cursor.execute("SELECT pg_backend_pid()")
    return int(cursor.fetchone()[0])


def send(cursor: Any, channel: str, payload: str) -> None:
    cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def work(worker: Worker) -> None:
    """Handle all that was sent up to now."""
    send_to_end = json.dumps({"number": -1})
    sql("SELECT pg_notify('app.Shout', %s)", send_to_end)
    seen = numbers("hear").count(-1)
    while numbers("hear").count(-1) == seen or worker._ephemeral:
        worker.step()
    worker._poll()


# F24: what arrives by NOTIFY never hinders what is stored.


REFERENCES = ["true", "false", "0", "-1", "1.5", str(2**63), "9" * 30, '"1"', "[]", "{}"]


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_forged_reference_stops_no_delivery(
    worker: Worker, forger: Any, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: PostgreSQL refused ``id = true``, and the worker never delivered the channel again."""
    notify(Job, number=1)
    send(forger, "app.Job", f'{{"number": 2, "$ref": {reference}}}')
    send(forger, "app.Job", f'{{"number": 3, "\\u0024ref": {reference}}}')
    send(forger, "app.Job", '{"number": 4}')
    send(forger, "app.Shout", f'{{"number": 5, "$ref": {reference}}}')
    work(worker)
    assert numbers("do_job") == [1, 4]
    assert numbers("hear") == [-1]
    assert f"server processes that sent them: {pid_of(forger)})" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.fixture
def picky() -> Iterator[None]:
    """A constraint of somebody's own, that none of these passes, not even as its text."""
    sql(
        "ALTER TABLE pgpubsub_sql_notification ADD CONSTRAINT picky"
        " CHECK (payload::text NOT LIKE '%%poison%%')"
    )
    yield
    sql("ALTER TABLE pgpubsub_sql_notification DROP CONSTRAINT picky")


def test_a_raw_notify_that_cannot_be_stored_delays_nothing_and_is_dropped_in_the_end(
    worker: Worker,
    picky: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F24: neither stored messages nor the raw NOTIFYs behind it, for however long it is tried."""
    notify(Job, number=1)
    worker.delivery.store("app.Job", ['{"number": 2}', '{"mood": "poison"}', '{"number": 3}'])
    while Notification.objects.exists():
        worker.delivery.handle_stored("app.Job")
    assert numbers("do_job") == [1, 2, 3]
    assert "on the durable channel app.Job (messages: 1): " in caplog.text
    raw_notifies = worker.delivery._states["app.Job"].raw_notifies
    assert [one.payload for one in raw_notifies._refused] == ['{"mood": "poison"}']
    end = raw_notifies._refused[0].until
    monkeypatch.setattr("time.monotonic", lambda: end)
    worker.delivery.handle_stored("app.Job")
    assert not raw_notifies._refused
    assert "refused to store it for ten minutes: {" in caplog.text


def test_refused_messages_are_stored_again_with_growing_delays(
    worker: Worker, picky: None, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: neither each batch of what is stored nor each new message tries it again."""
    raw_notifies = worker.delivery._states["app.Job"].raw_notifies
    for number in range(50):
        notify(Job, number=number)
        worker.delivery.store("app.Job", ['{"mood": "poison"}'])
        worker.delivery.handle_stored("app.Job")
    assert sorted(numbers("do_job")) == list(range(50))
    assert len(raw_notifies._refused) == 50
    assert 1 <= caplog.text.count("Cannot store raw NOTIFYs") < 10


def test_raw_notifies_that_cannot_be_stored_wait_in_a_bounded_queue(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: what is wrong then is the table, and not they."""
    payloads = [json.dumps({"number": number}) for number in range(250)]
    sql("ALTER TABLE pgpubsub_sql_notification RENAME TO away")
    try:
        worker.delivery.store("app.Job", payloads)
        assert caplog.text.count("Cannot store raw NOTIFYs") == 1
    finally:
        sql("ALTER TABLE away RENAME TO pgpubsub_sql_notification")
    raw_notifies = RawNotifies(Job, worker.delivery.session)
    raw_notifies.add(["{}"] * 10_001, "public")
    assert len(raw_notifies._waiting) == 10_000
    while worker.delivery.handle_stored("app.Job"):
        pass
    assert sorted(numbers("do_job")) == list(range(250))


# F63: what a trigger channel tells comes from its trigger alone.


@pytest.mark.parametrize("channel", ["app.ItemChannel", NEWS])
def test_an_unsigned_message_is_refused_and_its_sender_named(
    worker: Worker, forger: Any, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: listeners handled a row that never was, with a context that nobody set."""
    send(forger, channel, FORGED)
    send(forger, channel, FORGED.replace("{", '{"$schema": "public", ', 1))
    send(forger, channel, '{"$sig": "' + "0" * 64 + '", ' + FORGED[1:])
    send(forger, channel, "no JSON")
    Item.objects.create(name="real")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["real"]
    assert [call["name"] for call in calls("item_inserted")] == ["real"]
    assert not Notification.objects.exists()
    said = f"channel {channel} (messages: 4, server processes that sent them: {pid_of(forger)}): "
    assert said in caplog.text
    assert "pgpubsub_notify(channel, payload)" in caplog.text


def test_refusals_are_logged_at_a_bounded_rate(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: a flood of forged messages is no flood of log lines, nor of queries."""
    asked = []
    learn = worker.delivery.signatures.learn
    worker.delivery.signatures.learn = lambda: asked.append(learn())  # type: ignore[method-assign]
    for _ in range(3):
        forger.execute(
            "SELECT pg_notify(%s, %s || n) FROM generate_series(1, 1000) AS n", [NEWS, FORGED]
        )
        work(worker)
    assert caplog.text.count("Refused") == 1
    assert len(asked) < 30
    worker.delivery.signatures._report_at.clear()
    worker.delivery.signatures.report()
    told = re.findall(r"\(messages: (\d+), ", caplog.text)
    assert len(told) == 2
    assert sum(map(int, told)) == 3000


def test_forged_messages_do_not_take_the_place_of_real_ones(worker: Worker) -> None:
    """F63: they are refused before they wait for their listeners."""
    with transaction.atomic():
        Item.objects.create(name="real")
        sql("SELECT pg_notify(%s, n || %s) FROM generate_series(1, 10500) AS n", NEWS, FORGED)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["real"]


@pytest.fixture
def overheard(forger: Any) -> Callable[[], str]:
    """What the stranger hears on a channel that tells of rows."""
    connection_ = forger.connection
    forger.execute(f'LISTEN "{NEWS.replace(chr(34), chr(34) * 2)}"')

    def hear() -> str:
        with stranger() as cursor:
            cursor.execute(
                "INSERT INTO app_item (name, number, amount, data) VALUES ('real', 1, 1, '{}')"
            )
        if hasattr(connection_, "poll"):

            def heard() -> Any:
                connection_.poll()
                return connection_.notifies

            eventually(heard)
            return str(connection_.notifies.pop().payload)
        return str(next(connection_.notifies()).payload)

    return hear


def test_an_overheard_message_cannot_be_repeated(
    worker: Worker, forger: Any, overheard: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """F63: not by another session, on no other channel, and not with another text."""
    payload = overheard()
    work(worker)
    assert len(calls("news")) == 1
    send(forger, NEWS, payload)
    send(forger, "app.ItemChannel", payload)
    send(forger, NEWS, payload.replace("real", "fake"))
    work(worker)
    assert len(calls("news")) == 1
    assert len(calls("item_inserted")) == 1
    assert "they have no valid signature" in caplog.text


def test_a_session_cannot_repeat_its_own_messages(
    worker: Worker, forger: Any, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: signed for this session they are, and known again."""
    sql(f"GRANT INSERT ON app_item TO {role}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    admitted = []
    accepts = worker.delivery.signatures.accepts
    worker.delivery.signatures.accepts = lambda *given: admitted.append(given) or accepts(*given)  # type: ignore[method-assign]
    forger.execute("INSERT INTO app_item (name, number, amount, data) VALUES ('once', 1, 1, '{}')")
    work(worker)
    (payload,) = [given[1] for given in admitted if given[0] is ItemNews]
    send(forger, NEWS, payload)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["once"]
    assert "they are copies of messages that were received before" in caplog.text


def test_remembered_signatures_are_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "REMEMBERED", 3)
    gate = worker.delivery.signatures
    assert all(gate._is_new(str(number)) for number in range(7))
    assert not any(gate._is_new(str(number)) for number in range(3, 7))
    assert len(gate._recent | gate._older) == 4


def test_an_unsigned_reference_is_refused(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: neither to a long payload of another channel nor to one of this."""
    Item.objects.create(name="ä" * 20_000)
    notify(Shout, number=7, places=[Place("a place")] * 1_000)
    work(worker)
    assert numbers("hear") == [7, -1]
    for reference in LongPayload.objects.values_list("id", flat=True):
        for name in ("app.Shout", "app.Job", NEWS):
            send(forger, name, f'{{"number": 8, "$ref": {reference}}}')
    work(worker)
    assert numbers("hear") == [7, -1, -1]
    assert len(calls("news")) == 1
    assert not numbers("do_job")
    assert "Refused messages that came by NOTIFY on channel app.Shout (messages: 2, " in caplog.text


def test_accept_raw_notify_decides_for_a_plain_channel(
    worker: Worker, forger: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: raw pg_notify is a feature of plain channels, and can be closed."""
    send(forger, "app.Shout", '{"number": 1}')
    send(forger, "app.Job", '{"number": 1}')
    work(worker)
    monkeypatch.setattr(Job, "accept_raw_notify", False)
    send(forger, "app.Job", '{"number": 2}')
    notify(Job, number=3)
    work(worker)
    assert numbers("do_job") == [1, 3]
    assert "on channel app.Job (messages: 1" in caplog.text
    monkeypatch.setattr(Shout, "accept_raw_notify", False)
    send(forger, "app.Shout", '{"number": 4}')
    notify(Shout, number=5)
    while 5 not in numbers("hear"):
        worker.step()
    assert 4 not in numbers("hear")


def test_accept_raw_notify_opens_a_trigger_channel(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F63: where the trigger is hand-written."""
    monkeypatch.setattr(ItemNews, "accept_raw_notify", True)
    sql("SELECT pg_notify(%s, %s)", NEWS, FORGED)
    work(worker)
    assert [call["name"] for call in calls("news")] == ["forged"]


def test_signed_data_on_a_channel_that_was_made_durable_is_stored(
    worker: Worker, forger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: in a rolling deployment an old trigger or process still sends it."""
    item = Item.objects.create(name="real")
    row = {"id": item.id, "name": "old trigger", "number": 1, "amount": "1.00", "data": {}}
    change = json.dumps({"op": "INSERT", "when": "AFTER", "old": None, "new": row, "context": {}})
    sql("SELECT pgpubsub_send_v1('app.ItemChannel', %s)", change)
    sql(
        "SELECT pgpubsub_send_v1('app.Job', jsonb_build_object('number', 1, 'mood', %s::text))",
        "good",
    )
    send(forger, "app.ItemChannel", change)
    work(worker)
    assert [call["name"] for call in calls("item_inserted")] == ["real", "old trigger"]
    assert numbers("do_job") == [1]
    assert "on channel app.ItemChannel (messages: 1, " in caplog.text


def test_each_schema_has_a_secret_of_its_own(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """F63: messages of another tenant are neither handled nor called forged."""
    sql("CREATE SCHEMA tenant")
    try:
        sql("CREATE TABLE tenant.pgpubsub_sql_secret AS SELECT sha256('tenant') AS secret")
        for statement in CreateHelper("send_v1", "pgpubsub_send_v1(text, jsonb)")._created(
            "tenant"
        ):
            sql(statement.replace("%", "%%"))
        sql("SELECT tenant.pgpubsub_send_v1(%s, %s)", NEWS, FORGED)
        Item.objects.create(name="ours")
        work(worker)
        assert [call["name"] for call in calls("news")] == ["ours"]
        tenant = SignatureCheck(worker.delivery.session)
        sql("SET search_path = tenant, public")
        tenant.learn()
        assert tenant._secrets not in ([], worker.delivery.signatures._secrets)
    finally:
        sql("RESET search_path")
        sql("DROP SCHEMA tenant CASCADE")
    assert "Refused" not in caplog.text


@pytest.mark.parametrize("statement", ["TRUNCATE", "DELETE FROM"])
def test_a_deleted_secret_is_created_again(worker: Worker, statement: str) -> None:
    """F63: by whoever sends next, so that nothing is lost."""
    before = sql("SELECT secret FROM pgpubsub_sql_secret")
    sql(f"{statement} pgpubsub_sql_secret")
    with transaction.atomic():
        sql("SET TRANSACTION READ ONLY")
        notify(Shout, number=1)
    Item.objects.create(name="signed")
    Item.objects.create(name="so is this")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["signed", "so is this"]
    assert numbers("hear") == [1, -1]
    ((made,),) = sql("SELECT secret FROM pgpubsub_sql_secret")
    assert len(made) == 32
    assert (made,) not in before


def test_a_replaced_or_added_secret_is_learned(worker: Worker) -> None:
    """F63: as after a restore of data into a migrated database."""
    sql("INSERT INTO pgpubsub_sql_secret SELECT 'restored'")
    Item.objects.create(name="two")
    sql("DELETE FROM pgpubsub_sql_secret WHERE secret <> 'restored'")
    Item.objects.create(name="other")
    work(worker)
    assert [call["name"] for call in calls("news")] == ["two", "other"]


def test_flush_leaves_the_secret(worker: Worker) -> None:
    """F63: so that a TransactionTestCase, which flushes, may run a worker."""
    before = sql("SELECT secret FROM pgpubsub_sql_secret")
    from django.core.management import call_command

    call_command("flush", interactive=False, verbosity=0)
    assert sql("SELECT secret FROM pgpubsub_sql_secret") == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pgpubsub_sql_secret",
        "SELECT * FROM pgpubsub_sql_longpayload",
        "SELECT * FROM pgpubsub_sql_notification",
        "SELECT pgpubsub_send_v1('app.Shout', '{}')",
        "SELECT pgpubsub_publish_v1('app.Shout', '{}')",
        "SELECT pgpubsub_notify('app.Job', '{}')",
    ],
)
def test_nobody_else_may_read_the_secret_or_execute_its_functions(
    forger: Any, statement: str
) -> None:
    """F63."""
    with pytest.raises(connection.Database.ProgrammingError, match="permission denied"):
        forger.execute(statement)


def test_a_listener_with_the_least_privileges_does_all_its_work(
    listen: Callable[..., Listen], role: str
) -> None:
    """F11, F63: with all of them but one it says which one it lacks."""
    sql(f"ALTER ROLE {role} LOGIN")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_notification TO {role}")
    sql(f"GRANT SELECT, DELETE ON pgpubsub_sql_longpayload TO {role}")
    sql(f"GRANT EXECUTE ON FUNCTION pgpubsub_key_v1(jsonb), pgpubsub_bucket_v1(text) TO {role}")
    sql(f"GRANT ALL ON app_entry TO {role}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    lacking = listen("--channels", "app.Job", "app.Shout", PGUSER=role)
    eventually(lambda: "GRANT SELECT ON public.pgpubsub_sql_secret TO" in lacking.log)
    assert lacking.process.wait() == 1
    sql(f"GRANT SELECT ON pgpubsub_sql_secret TO {role}")
    worker = listen("--channels", "app.Job", "app.Shout", PGUSER=role).ready()
    notify(Job(number=1, mood="bad"))
    notify(Shout(number=2, places=[Place("x" * 9000)]))
    sql("SELECT pg_notify('app.Job', %s)", json.dumps({"number": 3}))
    notify(Job(number=4))
    eventually(lambda: numbers("hear") == [2] and {3, 4} <= {*numbers("do_job")})
    eventually(lambda: Notification.objects.get().last_error)
    assert "permission denied" not in worker.log
    assert worker.stop() == 0


# What a role can do: each row of the tables in docs/reference/sql.md that no test above has.


@pytest.fixture
def writer(forger: Any, role: str) -> Any:
    """A role that may write to a watched table, and no more."""
    sql(f"GRANT INSERT ON app_item TO {role}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    return forger


INSERT = "INSERT INTO app_item (name, number, amount, data) VALUES (%s, 1, 1, '{}')"


def heard_by(cursor: Any) -> list[str]:
    """Return the payloads that a session has heard, by its next statement at the latest."""
    raw = cursor.connection
    if hasattr(raw, "poll"):
        cursor.execute("SELECT 1")
        raw.poll()
        return [str(raw.notifies.pop(0).payload) for _ in list(raw.notifies)]
    return [str(notify.payload) for notify in raw.notifies(timeout=0.1)]


def test_listening_to_a_durable_channel_shows_rings_only(worker: Worker, forger: Any) -> None:
    """F65: and nothing of what it is."""
    forger.execute('LISTEN "app.ItemChannel"; LISTEN "app.Job"')
    fall_asleep(worker)
    Item.objects.create(name="private")
    notify(Job, number=1, mood="good")
    assert set(heard_by(forger)) == {""}


def test_forged_rings_stop_no_delivery(worker: Worker, forger: Any) -> None:
    """F24: not even many, to channels of all kinds."""
    notify(Job, number=1)
    Item.objects.create(name="real")
    for number in range(500):
        for name in ("app.Job", "app.Shout", "app.ItemChannel", NEWS):
            send(forger, name, "")
        if number % 100 == 0:
            notify(Job, number=number)
            worker.step()
    work(worker)
    assert sorted(numbers("do_job")) == [0, 1, 100, 200, 300, 400]
    assert [call["name"] for call in calls("news")] == ["real"]


@pytest.mark.parametrize(
    "payload", ['{"number": 1, "$schema": "other"}', '{"number": 1, "$schema": ["public"]}']
)
def test_a_message_with_a_forged_schema_is_ignored(
    worker: Worker, forger: Any, payload: str
) -> None:
    """F63: it takes away nothing but itself."""
    notify(Job, number=2)
    notify(Shout, number=2)
    for name in ("app.Job", "app.Shout", "app.ItemChannel", NEWS):
        send(forger, name, payload)
    work(worker)
    assert numbers("do_job") == [2]
    assert numbers("hear") == [2, -1]


@pytest.mark.parametrize("text", [json.dumps('{"number": 1}'), "1", "null", "{}"])
def test_a_forged_raw_is_parked_or_dropped(
    worker: Worker, forger: Any, role: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F24: from those who may store, and from those who may only send."""
    payload = f'{{"$raw": {text}}}'
    sql(f"GRANT EXECUTE ON FUNCTION pgpubsub_notify(text, jsonb) TO {role}")
    for name in ("app.Job", "app.ItemChannel"):
        forger.execute("SELECT pgpubsub_notify(%s, %s)", [name, payload])
    send(forger, "app.Job", payload)
    send(forger, "app.Shout", payload)
    notify(Job, number=2)
    work(worker)
    assert numbers("do_job") == [2]
    assert numbers("hear") == [-1]
    assert not calls("item_inserted")
    errors = Notification.objects.parked().values_list("channel", "last_error")
    assert sorted(channel for channel, _ in errors) == ["app.ItemChannel", "app.Job", "app.Job"]
    assert all(str(error).startswith(channel) for channel, error in errors)


def test_whoever_takes_the_lock_of_a_key_delays_its_messages(forger: Any) -> None:
    """F24: for as long as that session lives. Nothing is lost, and other keys go on."""
    delivery = Delivery([Step], using="default", schema="public")
    for account in ("held", "free"):
        notify(Step, account=account, number=len(account))
    forger.execute(
        "SELECT pg_advisory_lock(hashtextextended('app.Step ' || '[\"held\"]',"
        " 'pgpubsub_sql_notification'::regclass::oid::bigint))"
    )
    while delivery.handle_stored("app.Step"):
        pass
    assert list(Notification.objects.values_list("key", flat=True)) == ['["held"]']
    forger.execute("SELECT pg_advisory_unlock_all()")
    while delivery.handle_stored("app.Step"):
        pass
    assert not Notification.objects.exists()


def test_whoever_takes_the_election_lock_keeps_raw_notifies_from_being_stored(
    worker: Worker, forger: Any
) -> None:
    """F24: and nothing else: what is stored is handled."""
    forger.execute(
        "SELECT pg_advisory_lock('pgpubsub_sql_notification'::regclass::oid::integer,"
        " hashtext('app.Job'))"
    )
    send(forger, "app.Job", '{"number": 1}')
    notify(Job, number=2)
    work(worker)
    assert numbers("do_job") == [2]


def test_whoever_writes_chooses_the_context(worker: Worker, writer: Any) -> None:
    """F64: the context is a claim of the writer's."""
    writer.execute("""SET pgpubsub.notification_context = '{"user": "root"}'""")
    writer.execute(INSERT, ["real"])
    payloads = Notification.objects.values_list("payload", flat=True)
    assert [payload["context"] for payload in payloads] == [{"user": "root"}]


def test_whoever_writes_can_silence_triggers_unless_not_ignorable(
    worker: Worker, writer: Any
) -> None:
    """F64: for this session, and not where the channel forbids it."""
    writer.execute("SET pgpubsub.ignore = 'true'")
    writer.execute(INSERT, ["silent"])
    assert not Notification.objects.exists()
    with unsilenced(ItemChannel):
        writer.execute(INSERT, ["audited"])
        payloads = Notification.objects.values_list("payload", flat=True)
        assert [payload["new"]["name"] for payload in payloads] == ["audited"]
        for statement in (
            "SET session_replication_role = replica",
            "ALTER TABLE app_item DISABLE TRIGGER ALL",
            'DROP FUNCTION "pgpubsub_channel_app__item_channel" CASCADE',
        ):
            with pytest.raises(connection.Database.ProgrammingError):
                writer.execute(statement)
    writer.execute(INSERT, ["silent again"])
    assert Notification.objects.count() == 1


@contextmanager
def unsilenced(channel: Any) -> Iterator[None]:
    """Install the trigger of *channel* as one that cannot be silenced."""
    trigger = specify(channel)
    for one in (dataclasses.replace(trigger, ignorable=False), trigger):
        names = {"schema": "public", "helpers": "public", "app": "tests"}
        target = find_target(connection, one, "app_item", **names)
        for statement in create(one, target):
            sql(statement)
        if one is not trigger:
            yield


def test_whoever_may_execute_our_functions_can_send_anything(
    worker: Worker, forger: Any, role: str
) -> None:
    """F63: rows that never were, too; so these grants are given to those that are trusted."""
    for signature in ("pgpubsub_notify(text, jsonb)", "pgpubsub_publish_v1(text, jsonb)"):
        sql(f"GRANT EXECUTE ON FUNCTION {signature} TO {role}")
    forger.execute("SELECT pgpubsub_notify('app.ItemChannel', %s)", [FORGED])
    forger.execute("SELECT pgpubsub_publish_v1(%s, %s)", [NEWS, FORGED])
    assert Notification.objects.get().channel == "app.ItemChannel"
    work(worker)
    assert [call["name"] for call in calls("news")] == ["forged"]


def test_whoever_may_read_the_secret_can_forge(worker: Worker, forger: Any, role: str) -> None:
    """F63: so only workers may."""
    sql(f"GRANT SELECT ON pgpubsub_sql_secret TO {role}")
    forger.execute(
        """SELECT pg_notify(%s, '{"$sig": "' || encode(sha256(secret || sha256(secret || convert_to(
        pg_backend_pid() || %s || %s, 'UTF8'))), 'hex') || '", ' || substr(%s, 2))
        FROM pgpubsub_sql_secret""",
        [NEWS, FORGED, NEWS, FORGED],
    )
    work(worker)
    assert [call["name"] for call in calls("news")] == ["forged"]
