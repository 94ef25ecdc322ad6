"""What every way to listen has in common, and where durable and ephemeral channels differ.

Each test is run for both drivers, for one process and for several; those that take a ``line``, for
both modes as well.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from django.db import connections, transaction
from django.utils import timezone

from pgpubsub_sql import Handled, Notification, notification_context, notify, notify_many
from pgpubsub_sql.embedded import Server
from pgpubsub_sql.models import LongPayload
from tests.app.models import Entry, Item
from tests.conformance.channels import Place, Said, Shared
from tests.conformance.conftest import Line, Listening, durable_line, ephemeral_line
from tests.conftest import eventually
from tests.ledger import backends, listeners_wait, sql, stranger, waiting
from tests.registries import undone

# --- What arrives


def test_fields_arrive_as_they_were_sent(line: Line) -> None:
    """Typed, nested, optional, and with their defaults."""
    at = datetime.datetime(2026, 1, 31, 10, 30, tzinfo=datetime.UTC)
    places = [Place("here", (1.0, 2.5)), Place("there")]
    sent = line.say(1, text="Ærø 🎉 'x'", at=at, amount=Decimal("1.10"), places=places)
    assert line.heard() == [1] * line.copies
    assert line.told("said", number=1) == [repr(Said(**vars(sent)))] * line.copies


def test_rows_arrive_as_instances(line: Line) -> None:
    """P13: also those that are longer than a NOTIFY may be."""
    long = "ä" * 20_000
    item = Item.objects.create(name="one", amount="1.10", data={"a": 1.5})
    item.name = long
    item.save()
    everybody = 2 * (1 + line.listening.processes)  # both modes watch this table
    eventually(lambda: Entry.objects.filter(listener="hear_row").count() == everybody)
    one, two = (repr((name, Decimal("1.10"), {"a": 1.5})) for name in ("one", long))
    assert sorted(line.told("now", "hear_row")) == sorted([one, two] * line.copies)
    assert line.told("was", "hear_row", now=two) == [one] * line.copies


def test_anybody_may_send_with_sql(line: Line) -> None:
    with stranger() as cursor:
        name, message = line.channel.postgres_name(), '{"number": "7", "amount": 1.10}'
        cursor.execute(f"SELECT {line.sender}(%s, %s)", [name, message])
    assert line.heard() == [7] * line.copies
    assert "amount=Decimal('1.10')" in line.told("said", number=7)[0]


def test_each_listener_gets_what_it_names_and_in_their_order(line: Line) -> None:
    line.say(1)
    assert line.heard("hear_async") == [1] * line.copies
    assert line.told("extra", "hear_the_number", number=1) == ["a default"] * line.copies
    for pid in line.by_process():
        called = Entry.objects.filter(pid=pid, data__number=1).order_by("id")
        assert [one.listener for one in called] == ["hear", "hear_async", "hear_the_number"]


def test_equal_messages_of_one_transaction_all_arrive(line: Line) -> None:
    """P7: also where PostgreSQL makes one of equal NOTIFYs. P6: no payload is compared."""
    with transaction.atomic():
        for _ in range(5):
            line.say(1)
    assert line.heard() == [1] * 5 * line.copies


def test_what_is_rolled_back_never_arrives(line: Line) -> None:
    with undone():
        line.say(1)
    with transaction.atomic():
        line.say(2)
        with undone():
            line.say(3)
        line.say(4)
    assert sorted(line.heard()) == sorted([2, 4] * line.copies)


def test_a_process_handles_what_it_gets_of_a_transaction_in_order(line: Line) -> None:
    with transaction.atomic():
        for number in range(30):
            line.say(number)
    heard = line.by_process()
    assert sorted(line.so_far()) == sorted([*range(30)] * line.copies)
    if line.copies == line.listening.processes:  # several may give back what they share
        assert all(numbers == sorted(numbers) for numbers in heard.values())


def test_a_message_longer_than_a_notify_may_be_arrives_whole(line: Line) -> None:
    """P13"""
    sent = line.say(1, text="ä" * 20_000)
    assert line.heard() == [1] * line.copies
    assert line.told("said", number=1) == [repr(Said(**vars(sent)))] * line.copies


def test_context_reaches_the_listeners_and_nobody_after_them(line: Line) -> None:
    """P23: in the peer it lasts as long as the connection."""
    with notification_context({"user": 7}):
        line.say(1)
        Item.objects.create(name="with")
    line.say(2)
    Item.objects.create(name="without")
    everybody = 2 * (1 + line.listening.processes)
    eventually(lambda: Entry.objects.filter(listener="hear_row").count() == everybody)
    line.settle()
    assert line.told("context", number=1) == [{"user": 7}] * line.copies
    assert line.told("context", number=2) == [{}] * line.copies
    contexts = line.told("context", "hear_row")
    assert contexts.count({"user": 7}) == contexts.count({}) == line.copies


def test_channels_can_be_left_out(line: Line) -> None:
    """P27: there the slowest channel holds up all others."""
    with transaction.atomic():
        notify(line.left_out(number=1))
        line.say(2)
    assert line.heard() == [2] * line.copies
    assert not Entry.objects.filter(listener__in=["do_job", "hear"], data__number=1).exists()


# --- What goes wrong


def test_an_exception_disturbs_neither_neighbours_nor_processes(line: Line) -> None:
    """P8: there it ends the process, and what was in its memory is lost."""
    with transaction.atomic():
        for number, mood in enumerate(["good", "bad", "broken-sql", "dangling", "exit", "good"]):
            line.say(number, mood)
    assert sorted(line.heard()) == sorted([0, 5] * line.copies)
    assert "this listener is in a bad mood" in line.listening.now.log
    assert line.listening.is_unharmed


def test_what_nobody_can_read_does_not_stop_it(line: Line) -> None:
    """P19: whoever may connect may send anything."""
    name = line.channel.postgres_name()
    for payload in ["rubbish", "[]", "{}", '{"number": "x"}', "[" * 5000, '{"$ref": 1}']:
        sql("SELECT pg_notify(%s, %s)", name, payload)
        line.say(1)
    assert line.heard() == [1] * 6 * line.copies
    assert line.listening.is_unharmed


def test_closing_djangos_connection_does_not_end_listening(line: Line) -> None:
    """P12: LISTEN has one of its own, which pins nothing while a listener takes its time."""
    line.say(1, "close")
    line.say(2)
    assert line.heard() == [2] * line.copies
    with listeners_wait():
        line.say(3, "wait")
        eventually(lambda: waiting() == line.copies)
        state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        for pid in backends("pgpubsub_sql listen"):
            eventually(lambda pid=pid: sql(state, pid) == [("idle",)])  # it may just be asked
    assert sorted(line.heard()) == sorted([2, 3] * line.copies)


def test_the_loss_of_its_connections_is_survived(line: Line) -> None:
    """P9: in the peer the worker is gone for good."""
    line.settle()
    with line.listening.reconnecting():
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    line.say(1)
    assert line.heard() == [1] * line.copies
    assert line.listening.is_unharmed


def test_a_crash_of_the_server_is_survived(line: Line, server: Server) -> None:
    """P9: it waits for the server, LISTENs again, and looks for what is stored."""
    line.settle()
    connections.close_all()
    with line.listening.reconnecting():
        server.restart("immediate")
    line.say(1)
    assert line.heard() == [1] * line.copies
    assert line.listening.is_unharmed


def alive(pid: int) -> bool:
    """Whether there is a process of this number, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_lets_messages_in_flight_finish_and_leaves_no_process(line: Line) -> None:
    """P17: there it ends the parent, and its workers stay."""
    listen = line.listening.now
    with listeners_wait():
        line.say(1, "wait")
        eventually(lambda: waiting() == line.copies)
        listen.process.send_signal(signal.SIGTERM)
        eventually(lambda: "to finish the messages in flight" in listen.log)
    line.listening.await_end()
    assert line.so_far() == [1] * line.copies
    pids = [int(pid) for pid in re.findall(r"as process (\d+)", listen.log)]
    assert len(pids) == line.listening.processes
    assert not any(map(alive, pids))


# --- Subscriptions, batches, history


def handled_by(listener: str) -> list[int]:
    """Return the numbers that a listener has handled, in order."""
    entries = Entry.objects.filter(listener=listener)
    return sorted(number for (number,) in entries.values_list("data__number"))


def test_each_subscription_handles_every_message_by_itself(subscribed: Listening) -> None:
    """Neither the other's failures nor those of its neighbours in a batch concern it."""
    messages = [Shared(number) for number in range(20)]
    messages[3].mood = "bad"
    messages[5].text = "not to be indexed"
    notify_many(messages)
    eventually(lambda: Notification.from_channel(Shared).parked().count() == 2)
    eventually(lambda: Notification.from_channel(Shared).count() == 2)
    parked = Notification.from_channel(Shared).values_list("subscription", "payload__number")
    assert sorted(parked) == [("mail", 3), ("search", 5)]
    assert handled_by("send_mail") == [number for number in range(20) if number != 3]
    assert handled_by("index") == [number for number in range(20) if number != 5]
    assert subscribed.is_unharmed


def test_what_was_handled_is_kept_and_sent_again_to_one_subscription(
    subscribed: Listening,
) -> None:
    notify_many([Shared(number) for number in range(10)])
    kept = Handled.objects.filter(channel=Shared.postgres_name())
    eventually(lambda: kept.filter(outcome="handled").count() == 20)
    found = kept.values_list("subscription", "payload__number")
    assert sorted(found) == [(name, n) for name in ("mail", "search") for n in range(10)]
    assert kept.replay(subscription="search") == 10
    eventually(lambda: len(handled_by("index")) == 20)
    assert handled_by("index") == sorted([*range(10)] * 2)
    assert handled_by("send_mail") == [*range(10)]


# --- Where the modes differ


def test_only_what_is_durable_waits_for_who_comes_later(idle: Listening) -> None:
    """P10: without --recover. P11: in small batches, so that others see what is done."""
    durable, ephemeral = durable_line(idle), ephemeral_line(idle)
    moods = [*["good"] * 150, "wait"]
    for line in (durable, ephemeral):
        notify_many([line.channel(number, mood) for number, mood in enumerate(moods)])
    with listeners_wait():
        idle.start()
        eventually(lambda: waiting() == 1)
        assert 0 in durable.so_far()
    assert sorted(durable.heard()) == list(range(151))
    idle.now.ready(idle.processes)
    assert ephemeral.heard() == []


def test_a_durable_message_is_handled_once_over_all_processes(durable: Line) -> None:
    """P6: whoever sends at the same time, commits or not; found by index, and gone when done."""
    name = durable.channel.postgres_name()

    def send(first: int) -> None:
        with stranger() as cursor:
            for number in range(first, first + 25):
                cursor.execute("BEGIN")
                message = json.dumps({"number": number})
                cursor.execute("SELECT pgpubsub_notify(%s, %s)", [name, message])
                cursor.execute("COMMIT" if number % 4 else "ROLLBACK")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(0, 100, 25)))
    assert sorted(durable.heard()) == [number for number in range(100) if number % 4]
    assert not Notification.objects.exists()


def test_an_ephemeral_message_is_handled_by_every_process(ephemeral: Line) -> None:
    """And is not stored; a long one is, until all have had the time to read it (P13)."""
    ephemeral.say(1)
    ephemeral.say(2, text="x" * 8_000)
    heard = ephemeral.by_process()
    assert list(heard.values()) == [[1, 2]] * ephemeral.listening.processes
    assert not Notification.objects.exists()
    assert LongPayload.objects.count() == 1


def test_a_durable_message_is_retried_and_then_parked(durable: Line) -> None:
    """P10: without a restart and without being asked to."""
    durable.say(1, "bad at first")
    durable.say(2, "bad")
    eventually(lambda: Notification.objects.parked().exists() and durable.so_far() == [1])
    (parked,) = Notification.objects.all()
    assert (parked.payload["number"], parked.attempts) == (2, 3)
    assert "this listener is in a bad mood" in parked.last_error
    log = durable.listening.now.log
    assert f"Notification {parked.pk} of channel conformance.Durable failed and will be" in log
    assert f"Notification {parked.pk} of channel conformance.Durable failed and is parked" in log


def test_an_ephemeral_message_is_tried_once(ephemeral: Line) -> None:
    said = "A message on channel conformance.Ephemeral failed; it will not be retried"
    before = ephemeral.listening.now.log.count(said)
    ephemeral.say(1, "bad at first")
    assert ephemeral.heard() == []
    assert ephemeral.listening.now.log.count(said) - before == ephemeral.listening.processes
    assert not Notification.objects.exists()


BAD = ["rubbish", "[]", '{"number": "x"}']


def test_a_durable_message_that_nobody_can_read_is_parked(durable: Line) -> None:
    """P19: once over all processes, with what is wrong with it; even if it came by NOTIFY."""
    name = durable.channel.postgres_name()
    for payload in BAD:
        sql("SELECT pg_notify(%s, %s)", name, payload)
    sql("SELECT pgpubsub_notify(%s, '{}')", name)
    eventually(lambda: Notification.objects.parked().count() == len(BAD) + 1)
    durable.settle()
    for parked in Notification.objects.all():
        assert parked.last_error.startswith("conformance.Durable: ")
        assert "number" in parked.last_error


def test_an_ephemeral_message_that_nobody_can_read_is_dropped(ephemeral: Line) -> None:
    """P19: by each process, which says so."""
    said = "A message on channel conformance.Ephemeral cannot be read, and was dropped"
    before = ephemeral.listening.now.log.count(said)
    for payload in BAD:
        sql("SELECT pg_notify('conformance.Ephemeral', %s)", payload)
    assert ephemeral.heard() == []
    dropped = ephemeral.listening.now.log.count(said) - before
    assert dropped == len(BAD) * ephemeral.listening.processes
    assert not Notification.objects.exists()


def test_what_is_left_out_waits_where_it_is_durable(durable: Line, ephemeral: Line) -> None:
    """P27: for a worker that wants it."""
    notify(durable.left_out(number=1))
    notify(ephemeral.left_out(number=2))
    durable.settle()
    ephemeral.settle()
    (kept,) = Notification.objects.all()
    assert (kept.payload["number"], kept.attempts) == (1, 0)


def test_only_a_durable_message_can_be_delayed(durable: Line) -> None:
    """P10: it is found in its time, without a ring."""
    before = timezone.now()
    durable.say(0)
    notify(durable.channel(number=1), delay=datetime.timedelta(seconds=0.3))
    assert durable.heard() == [0]
    eventually(lambda: durable.so_far() == [0, 1])
    assert timezone.now() - before >= datetime.timedelta(seconds=0.3)
