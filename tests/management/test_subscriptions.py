"""pgpubsub move --subscription, unsubscribe, and what other commands say of subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError

import pgpubsub_sql
from pgpubsub_sql import Channel, notify
from pgpubsub_sql.inspection import paused_lanes
from pgpubsub_sql.models import Notification
from pgpubsub_sql.subscriptions import Lane
from tests.ledger import sql, stranger
from tests.management.support import run, run_json
from tests.registries import blank
from tests.stored import in_flight, park, store

__all__ = ("blank",)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("blank")]

NAME = "sale"
Rows = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def sale(blank: None) -> Iterator[type[Channel]]:
    """A channel with the subscriptions "" and "mail", which alone are registered."""
    before = sql("SELECT channel, name FROM pgpubsub_sql_subscription")
    sql("DELETE FROM pgpubsub_sql_subscription")
    channel = type("Sale", (Channel,), {"channel_name": NAME, "lock_notifications": True})
    for name in ("", "mail"):
        pgpubsub_sql.listener(channel, subscription=name)(lambda: None)
        sql("INSERT INTO pgpubsub_sql_subscription VALUES (%s, %s)", NAME, name)
    yield channel
    sql("DELETE FROM pgpubsub_sql_subscription")
    for names in before:
        sql("INSERT INTO pgpubsub_sql_subscription VALUES (%s, %s)", *names)


def registered() -> list[str]:
    return [name for (name,) in sql("SELECT name FROM pgpubsub_sql_subscription ORDER BY name")]


def stored() -> Rows:
    rows = Notification.objects.order_by("subscription", "message")
    return [(row.subscription, row.payload["number"]) for row in rows]


def send(number: int, cursor: Any = None) -> None:
    statement = f"SELECT pgpubsub_notify('{NAME}', '{{\"number\": {number}}}')"
    cursor.execute(statement) if cursor else sql(statement)


# --- Renaming


def test_a_renamed_subscription_gets_each_message_once() -> None:
    """What was stored, what a transaction stores that is open, and what is stored afterwards."""
    send(1)
    with stranger() as writer:
        writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM app_entry")
        told = run("move", NAME, "--subscription", "mail", "post", "--noinput")
        send(2)
        send(3, writer)
        writer.execute("COMMIT")
    assert told.startswith("1 message moved from sale (mail) to sale (post).\n")
    assert registered() == ["", "post"]
    assert stored() == [("", 1), ("", 2), ("", 3), ("mail", 3), ("post", 1), ("post", 2)]
    run("move", NAME, "--subscription", "mail", "post", "--noinput")
    assert [one for one in stored() if one[0]] == [("post", 1), ("post", 2), ("post", 3)]


def test_a_pause_goes_with_the_name() -> None:
    run("pause", NAME, "--subscription", "mail")
    run("move", NAME, "--subscription", "mail", "post", "--noinput")
    assert paused_lanes("default").keys() == {Lane(NAME, "post")}


def test_what_the_new_name_has_got_by_itself_stays() -> None:
    """As after migrate has registered it: nothing is stored for it twice."""
    send(1)
    sql("INSERT INTO pgpubsub_sql_subscription VALUES (%s, 'post')", NAME)
    send(2)
    told = run("move", NAME, "--subscription", "mail", "post", "--noinput")
    assert "1 message moved" in told
    assert "sale (post) was registered before, so it has got what was stored since" in told
    assert registered() == ["", "mail", "post"]
    assert stored() == [("", 1), ("", 2), ("mail", 2), ("post", 1), ("post", 2)]


def test_the_nameless_get_a_name_before_anything_is_registered() -> None:
    sql("DELETE FROM pgpubsub_sql_subscription")
    send(1)
    run("move", NAME, "--subscription", "", "mail", "--noinput")
    send(2)
    assert stored() == [("mail", 1), ("mail", 2)]


def test_a_dry_run_changes_nothing() -> None:
    send(1)
    before = stored()
    assert run("move", NAME, "--subscription", "mail", "post", "--dry-run") == (
        "1 message would be moved from sale (mail) to sale (post).\n"
    )
    assert (registered(), stored()) == (["", "mail"], before)


# --- The end


def test_unsubscribe_ends_one_that_nobody_declares() -> None:
    sql("INSERT INTO pgpubsub_sql_subscription VALUES (%s, 'former')", NAME)
    send(1)
    send(2)
    taken = Notification.objects.filter(subscription="former").order_by("id")[0]
    with in_flight(taken.pk):
        told = run("unsubscribe", NAME, "--subscription", "former", "--noinput")
    assert told == (
        "sale (former) has ended. 1 message deleted.\n"
        "1 message left, in flight or just stored. Run it again.\n"
    )
    send(3)
    assert registered() == ["", "mail"]
    assert [one for one in stored() if one[0] == "former"] == [("former", 1)]
    found = run_json("unsubscribe", NAME, "--subscription", "former", "--noinput")
    assert found == {"channel": NAME, "subscription": "former", "discarded": 1, "left": 0}
    assert len(stored()) == 6


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["unsubscribe", NAME, "--subscription", "mail"], "has listeners in this code, so migrate"),
        (["unsubscribe", NAME, "--subscription", "x"], r"has no subscription 'x', only '', 'mail'"),
        (["unsubscribe", "sael", "--subscription", "mail"], "Did you mean 'sale'"),
        (["unsubscribe", NAME], "--subscription"),
        (["move", NAME, "--subscription", "x", "post"], "has no subscription 'x'"),
        (["move", NAME, "--subscription", "mail", "a b"], "a name has up to 63"),
        (["move", NAME, "other", "--subscription", "mail", "post"], "Name one channel"),
        (["move", NAME], "Name the channel to move"),
        (
            ["pause", NAME, "--subscription", "x"],
            r"no subscription 'x' that is registered, only ''",
        ),
    ],
)
def test_mistakes_are_explained(argv: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run(*argv)
    assert registered() == ["", "mail"]


# --- Other commands


def test_one_subscription_is_paused_and_resumed() -> None:
    assert run("pause", NAME, "--subscription", "mail").splitlines() == [
        "sale (mail): paused",
        "To go on: python manage.py pgpubsub resume sale --subscription mail",
    ]
    assert paused_lanes("default").keys() == {Lane(NAME, "mail")}
    told = "sale (mail) has been paused for 0:00:00. To go on: python manage.py pgpubsub resume "
    assert told in run("status")
    assert run("resume", NAME, "--subscription", "") == "sale: not paused\n"
    assert run("resume", NAME) == "sale: resumed\n"
    assert not paused_lanes("default")


def test_pausing_waits_for_its_own_messages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))
    other = store(channel=NAME, subscription="")
    with in_flight(other.pk):
        run("pause", NAME, "--subscription", "mail")


def test_messages_are_selected_by_subscription() -> None:
    for name in ("", "mail"):
        park(channel=NAME, subscription=name, payload={"number": 1})
    assert [one["subscription"] for one in run_json("parked")["messages"]] == ["", "mail"]
    assert "sale (mail)" in run("failed", "--subscription", "mail")
    (shown,) = run_json("parked", "--subscription", "")["messages"]
    assert shown["subscription"] == ""
    assert run_json("replay", "--subscription", "mail") == {"replayed": 1, "dry_run": False}
    assert Notification.objects.parked().get().subscription == ""


def test_show_names_the_listeners_of_the_subscription() -> None:
    row = store(channel=NAME, subscription="mail", payload={})
    (shown,) = run_json("show", str(row.pk))
    assert shown["subscription"] == "mail"
    assert len(shown["listeners"]) == 1
    (gone,) = run_json("show", str(store(channel=NAME, subscription="x", payload={}).pk))
    assert gone["no_listener"] == "none: the channel has no listener"


def test_status_counts_each_by_itself(sale: type[Channel]) -> None:
    notify(sale)
    store(channel=NAME, subscription="gone", payload={})
    found = run_json("status")
    counts = {one["subscription"]: (one["ready"], one["has_listener"]) for one in found["channels"]}
    assert counts == {"": (1, True), "mail": (1, True), "gone": (1, False)}
    told = "No listener is declared for sale (gone), so nobody handles 1 message"
    assert any(problem.startswith(told) for problem in found["problems"])


def test_ls_shows_what_is_declared() -> None:
    (row,) = run_json("ls", NAME)
    assert row["subscriptions"] == ["mail"]
