"""What anybody may send on our channels: nothing stops a worker, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from django.db import DatabaseError, transaction

from pgpubsub_sql import Notification
from tests.app.models import Item
from tests.conftest import Listen, eventually
from tests.ledger import calls, numbers, sql, stranger

pytestmark = pytest.mark.django_db(transaction=True)


def with_number(text: str) -> str:
    return f'{{"number": {text}}}'


NEWS = 'item "news" äöü'
DEEP = "[" * 3_900 + "]" * 3_900
FOREIGN = [
    "hello from another program",
    "psycopg2 says hi",
    "<xml/>",
    "id=5",
    '{"type": "invalidate", "key": "blog:1"}',
]
NO_OBJECTS = [" ", "null", "7", '"text"', "[]", "[1, 2]", "true"]
NO_JSON = ['{"number": 1', '{"number": 1} x', "{'number': 1}", '{"number": NaN}', '{"number": 1,}']
UNREADABLE = [
    DEEP,
    with_number(DEEP[100:-100]),
    '{"a":' * 1_000 + "1" + "}" * 1_000,
    with_number("9" * 7_900),
    with_number(f'"{"x" * 7_900}"'),
    '{"number": 1, "mood": "\\u0000"}',
    '{"number": 1, "mood": "\\ud800"}',
    '{"number": 1e999999999}',
]
MISFITS = [
    "{}",
    '{"number": null}',
    '{"number": "many"}',
    '{"number": 1.5}',
    '{"number": [1]}',
    '{"number": 1, "mood": 5}',
    '{"number": 1, "at": "infinity"}',
    '{"number": 1, "places": [{"position": []}]}',
    '{"kwargs": 1}',
    '{"kwargs": {"number": "x"}}',
]
ROWS = [
    "{}",
    '{"op": "UPSERT", "new": {"id": 1}}',
    '{"op": "INSERT"}',
    '{"op": "INSERT", "new": {}}',
    '{"op": "INSERT", "new": {"id": "one"}}',
    '{"op": "INSERT", "new": [1]}',
    '{"op": "INSERT", "when": "LATER", "new": {"id": 1}}',
    '{"op": "INSERT", "new": {"id": 1, "amount": "a lot"}}',
]
"""Messages of a trigger that no trigger has sent."""


@pytest.fixture
def worker(listen: Callable[..., Listen]) -> Listen:
    return listen().ready()


def dropped(worker: Listen) -> list[str]:
    return [line for line in worker.log.splitlines() if "was dropped" in line]


def test_on_an_ephemeral_channel_it_is_dropped_with_channel_field_and_remedy(
    worker: Listen,
) -> None:
    """P19."""
    bad = FOREIGN + NO_OBJECTS + NO_JSON + UNREADABLE + MISFITS
    for payload in bad:
        sql("SELECT pg_notify('app.Shout', %s)", payload)
    sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    eventually(lambda: numbers("hear") == [1])
    lines = dropped(worker)
    assert len(lines) == len(bad)
    assert all(
        "A message on channel app.Shout cannot be read, and was dropped: " in line for line in lines
    )
    for line, payload in zip(lines, bad, strict=True):
        assert "It takes {number: int, mood: " in line, payload
        assert len(line) < 1_500, "a huge payload is not quoted whole"
    assert "Traceback" not in worker.log


def test_rows_that_no_trigger_has_sent_are_dropped_and_named(worker: Listen) -> None:
    """P19."""
    for payload in ROWS:
        sql("SELECT pgpubsub_send_v1(%s, %s)", NEWS, payload)
    Item.objects.create(name="real")
    eventually(lambda: calls("news") == [{"name": "real"}])
    lines = dropped(worker)
    assert len(lines) == len(ROWS)
    assert all(
        f"A message on channel {NEWS} cannot be read, and was dropped: " in line for line in lines
    )
    assert all("app.Item" in line or "JSON object" in line for line in lines), lines
    assert "Traceback" not in worker.log


def test_a_ring_without_data_is_no_message(worker: Listen) -> None:
    """It says only to look; so does NOTIFY without a payload on any channel."""
    sql('NOTIFY "app.Shout"')
    sql('NOTIFY "app.Job"')
    sql("SELECT pg_notify('app.Shout', '{\"number\": 1}')")
    eventually(lambda: numbers("hear") == [1])
    assert not dropped(worker)
    assert not Notification.objects.exists()


def test_the_last_of_equal_keys_counts_and_unknown_ones_are_ignored(worker: Listen) -> None:
    """As in jsonb; and a newer version may send more."""
    sql("SELECT pg_notify('app.Shout', %s)", '{"number": "x", "number": 1, "new": {"a": [1]}}')
    sql("SELECT pgpubsub_notify('app.Job', %s)", '{"number": "x", "number": 2, "new": 1}')
    eventually(lambda: numbers("hear") == [1] and numbers("do_job") == [2])


STORED = [
    *MISFITS[:6],
    *MISFITS[8:10],
    with_number("[" * 1_000 + "]" * 1_000),
    with_number(f'"{"x" * 5_000_000}"'),
    with_number("9" * 5_000),
    '{"mood": {"$raw": "no JSON"}}',
]


def test_on_a_durable_channel_it_is_parked_with_its_reason(worker: Listen) -> None:
    """P19: what cannot be read waits for somebody to mend it, and its neighbours are handled."""
    for number, payload in enumerate(STORED):
        sql("SELECT pgpubsub_notify('app.Job', %s::jsonb)", payload)
        sql("SELECT pgpubsub_notify('app.Job', %s::jsonb)", json.dumps({"number": number}))
    for payload in NO_OBJECTS[1:]:  # past pgpubsub_notify(), which takes objects only
        sql("INSERT INTO pgpubsub_sql_notification (channel, payload) VALUES ('app.Job', %s)",
            payload)  # fmt: skip
    for payload in ROWS:
        sql("SELECT pgpubsub_notify('app.ItemChannel', %s::jsonb)", payload)
    Item.objects.create(name="real")
    eventually(lambda: sorted(numbers("do_job")) == list(range(len(STORED))))
    eventually(lambda: calls("item_inserted"))
    parked = len(STORED) + len(NO_OBJECTS[1:]) + len(ROWS)
    eventually(lambda: Notification.objects.parked().count() == parked)
    assert Notification.objects.count() == parked
    for notification in Notification.objects.all():
        assert notification.attempts == 1
        assert notification.last_error.startswith(f"{notification.channel}: ")
        assert "It takes" in notification.last_error
        assert len(notification.last_error) < 1_500
        said = f"Notification {notification.pk} of channel {notification.channel} failed"
        parked = "is parked until you run `manage.py pgpubsub replay`"
        assert f"{said} and {parked}: {notification.channel}: " in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ('{"number": 1, "mood": "\\u0000"}', "unsupported Unicode escape sequence"),
        ('{"number": 1', "invalid input syntax for type json"),
        ("", "invalid input syntax for type json"),
        ("[1]", "is not a JSON object"),
        (with_number("[" * 100_000), "stack depth limit exceeded"),
    ],
)
def test_what_postgres_itself_refuses_is_the_senders_to_mend(payload: str, words: str) -> None:
    with pytest.raises(DatabaseError, match=words), transaction.atomic():
        sql("SELECT pgpubsub_notify('app.Job', %s::jsonb)", payload)
    assert not Notification.objects.exists()


def test_data_on_a_durable_channel_is_named_with_the_function_to_send_it(worker: Listen) -> None:
    """A NOTIFY there says when to look, not what to do."""
    with stranger() as cursor:
        cursor.execute("SELECT pg_notify('app.Job', 'no JSON')")
    eventually(lambda: "pgpubsub_notify(channel, payload)" in worker.log)
    assert "app.Job" in worker.log


@pytest.fixture
def unheard() -> Iterator[str]:
    yield "blog.NobodyListens"
    Notification.objects.all().delete()


def test_a_channel_that_nobody_declares_keeps_what_is_stored(worker: Listen, unheard: str) -> None:
    sql("SELECT pgpubsub_notify(%s, '{\"a\": 1}')", unheard)
    sql("SELECT pgpubsub_notify('app.Job', '{\"number\": 1}')")
    eventually(lambda: numbers("do_job") == [1])
    (kept,) = Notification.objects.all()
    assert (kept.channel, kept.payload, kept.attempts) == (unheard, {"a": 1}, 0)
    assert Notification.objects.ready().count() == 1
