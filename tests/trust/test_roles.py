"""What a role can do: the rows of the tables in docs/reference/sql.md that no other test has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from pgpubsub_sql import Notification, notify
from pgpubsub_sql.migrations_ops.declared_triggers import specify
from pgpubsub_sql.migrations_ops.watched_tables import find_target
from pgpubsub_sql.sql.ddl import create
from pgpubsub_sql.worker.delivery import Delivery
from pgpubsub_sql.worker.worker import Worker
from tests.app.channels import ItemChannel, Job, Place, Shout, Step
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.ledger import calls, numbers, sql
from tests.trust.support import FORGED, NEWS, send, work
from tests.workers import fall_asleep

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_listener_with_the_least_privileges_does_all_its_work(
    listen: Callable[..., Listen], role: str
) -> None:
    """F11, F63: with all of them but one it says which one it lacks."""
    sql(f"ALTER ROLE {role} LOGIN")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_notification TO {role}")
    sql(f"GRANT SELECT, DELETE ON pgpubsub_sql_longpayload TO {role}")
    sql(f"GRANT SELECT ON pgpubsub_sql_subscription TO {role}")
    sql(f"GRANT USAGE ON SEQUENCE pgpubsub_sql_notification_id_seq TO {role}")
    sql(f"GRANT EXECUTE ON FUNCTION pgpubsub_key_v1(jsonb), pgpubsub_bucket_v1(text) TO {role}")
    sql(f"GRANT ALL ON app_entry TO {role}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    lacking = listen("--channels", "app.Job", "app.Shout", PGUSER=role)
    eventually(lambda: "GRANT SELECT ON public.pgpubsub_sql_secret TO" in lacking.log)
    assert lacking.process.wait() == 1
    sql(f"GRANT SELECT ON pgpubsub_sql_secret TO {role}")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON pgpubsub_sql_counter TO {role}")
    worker = listen("--channels", "app.Job", "app.Shout", PGUSER=role).ready()
    notify(Job(number=1, mood="bad"))
    notify(Shout(number=2, places=[Place("x" * 9000)]))
    sql("SELECT pg_notify('app.Job', %s)", json.dumps({"number": 3}))
    notify(Job(number=4))
    eventually(lambda: numbers("hear") == [2] and {3, 4} <= {*numbers("do_job")})
    eventually(lambda: Notification.objects.get().last_error)
    assert "permission denied" not in worker.log
    assert worker.stop() == 0


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
        "SELECT pg_advisory_lock(hashtextextended('app.Step  ' || '[\"held\"]',"
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
