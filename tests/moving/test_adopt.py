"""``manage.py pgpubsub adopt``: stored notifications of django-pgpubsub."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connections

import pgpubsub_sql
from pgpubsub_sql import Notification, notify
from pgpubsub_sql.migrations_ops import adoption
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import ItemChannel, Job, Step
from tests.app.models import Entry, Item
from tests.conftest import Listen, eventually
from tests.management.support import run, run_json
from tests.moving.old import LONG_AGO, execute, item, keep, left, path, row, safe_name
from tests.registries import Ear, blank

__all__ = ["blank"]

SECOND = datetime.timedelta(seconds=1)


def job(number: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"kwargs": {"number": number, **fields}}


@pytest.mark.usefixtures("old")
class TestForwards:
    def test_messages_move_in_their_order_with_their_times(self) -> None:
        """M9, M10: the times were dropped, and what was written meanwhile came first."""
        notify(Job(number=9))
        for number in (1, 2, 3):
            keep(safe_name(Job), job(number), sent=LONG_AGO - number * SECOND)
        first, *_ = run_json("adopt")
        assert (first["channel"], first["messages"], first["moved"]) == ("app.Job", 3, 3)
        assert left() == []
        rows = list(Notification.from_channel(Job))
        assert [one.payload["number"] for one in rows] == [1, 2, 3, 9]
        times = [LONG_AGO - number * SECOND for number in (1, 2, 3)]
        assert [one.created_at for one in rows[:3]] == times
        assert [one.available_at for one in rows[:3]] == times
        assert rows[2].pk < 0 < rows[3].pk
        before = Notification.objects.before_migration("app", "0001_initial")
        assert before.count() == 3

    def test_a_message_without_a_time_is_the_oldest(self) -> None:
        keep(safe_name(Job), job(), sent=None)
        run("adopt")
        assert Notification.objects.get().created_at.year == 1970

    def test_rows_keep_their_context_and_say_what_happened(self) -> None:
        old, new = item(1, "old"), item(1, "new")
        for change in (row(None, new), row(old, new, context={"user": 7}), row(old, None)):
            keep(safe_name(ItemChannel), change)
        run("adopt")
        found = [one.payload for one in Notification.from_channel(ItemChannel)]
        assert [(one["op"], one["when"]) for one in found] == [
            ("INSERT", "AFTER"),
            ("UPDATE", "AFTER"),
            ("DELETE", "AFTER"),
        ]
        assert found[1]["context"] == {"user": 7}

    def test_json_strings_are_parsed(self) -> None:
        """M3: they were left behind, or parked, as its notify() and older triggers store them."""
        keep(safe_name(Job), '{"kwargs": {"number": 1}}')
        keep(
            safe_name(ItemChannel), '{"app": "app", "model": "Item", "old": null, "new": {"id": 1}}'
        )
        run("adopt")
        assert Notification.from_channel(Job).get().payload == {"number": 1}
        assert Notification.from_channel(ItemChannel).get().payload["op"] == "INSERT"

    def test_text_that_is_not_json_moves_as_text_and_stops_no_other(self) -> None:
        """M3: 1.3.1 stores NaN, which JSON does not have; handled, it is parked with the reason."""
        for payload in (job(1), '{"kwargs": {"number": NaN}}', job(2), [3], job(4)):
            keep(safe_name(Job), payload)
        run("adopt")
        found = [one.payload for one in Notification.from_channel(Job)]
        raw = {"$raw": '{"kwargs": {"number": NaN}}'}
        assert found == [{"number": 1}, raw, {"number": 2}, {"$raw": "[3]"}, {"number": 4}]

    def test_what_was_never_handled_is_parked_and_said_so(self) -> None:
        """M3: its notify() stores under a name that none of its workers looks for."""
        keep(path(Job), '{"kwargs": {"number": 1}}')
        (found,) = run_json("adopt", "--dry-run")
        assert found["what"] == "park"
        assert found["oldest"] == LONG_AGO.isoformat().replace("+00:00", "Z")
        assert "may be very old" in run("adopt")
        (parked,) = Notification.objects.parked()
        assert (parked.payload, parked.created_at) == ({"number": 1}, LONG_AGO)
        assert parked.reason == "NeverHandled"
        assert path(Job) in parked.last_error
        run("replay", "--id", str(parked.pk))
        assert Notification.objects.ready().count() == 1

    @pytest.mark.parametrize(("what", "ready"), [("deliver", 1), ("discard", 0)])
    def test_what_was_never_handled_is_delivered_or_discarded_if_told(
        self, what: str, ready: int
    ) -> None:
        """M3"""
        keep(path(Job), '{"kwargs": {"number": 1}}')
        (found,) = run_json("adopt", "--unheard", what)
        assert found["moved"] == 1
        assert left() == []
        assert Notification.objects.ready().count() == Notification.objects.count() == ready

    def test_messages_of_no_channel_stay_and_are_named(self) -> None:
        keep("pgpubsub_00000", job())
        found = run("adopt")
        assert "belong to no durable channel" in found
        assert 'channel_name = "pgpubsub_d5f69"' in found
        assert len(left()) == 1

    def test_a_channel_that_keeps_its_old_name_gets_its_messages(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M8: also one whose listen_safe_name() was its own."""
        monkeypatch.setattr(Job, "channel_name", "pgpubsub_jobs")
        keep("pgpubsub_jobs", job())
        run("adopt")
        assert Notification.from_channel(Job).count() == 1

    def test_nothing_changes_in_a_dry_run(self) -> None:
        keep(safe_name(Job), job())
        (found,) = run_json("adopt", "--dry-run")
        assert (found["messages"], found["moved"], found["what"]) == (1, 0, "adopt")
        assert len(left()) == 1
        assert not Notification.objects.exists()

    def test_messages_with_an_ordering_key_keep_their_order_before_new_ones(self) -> None:
        """M10"""
        notify(Step(account="a", number=2))
        keep(safe_name(Step), job(1, account="a"))
        keep(safe_name(Step), job(1, account=None))
        run("adopt")
        keys = [one.key for one in Notification.from_channel(Step)]
        assert keys == ['["a"]', None, '["a"]']

    def test_all_is_moved_in_batches_and_progress_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adoption, "BATCH", 2)
        for number in range(5):
            keep(safe_name(Job), job(number))
        done: list[int] = []
        (share,) = adoption.shares(connections["default"])
        adoption.adopt(connections["default"], share, adoption.Unheard.PARK, done.append)
        assert done == [2, 4, 5]

    def test_adopted_messages_can_be_named_and_changed(self) -> None:
        """Their ids are negative, where changes by the batch began at 0."""
        keep(safe_name(Job), job())
        run("adopt")
        one = Notification.objects.get()
        assert str(one.pk) in run("show", str(one.pk))
        assert Notification.objects.all().discard() == 1


@pytest.mark.usefixtures("old", "blank")
class TestTiming:
    @pytest.mark.parametrize(
        ("decorators", "when"),
        [(["pre"], "BEFORE"), (["post"], "AFTER"), (["pre", "post"], "AFTER")],
    )
    def test_a_message_has_the_timing_of_its_trigger(
        self, decorators: list[str], when: str
    ) -> None:
        """M1: those of a pre_ listener counted as AFTER, matched no listener, and were deleted."""

        class Items(pgpubsub_sql.TriggerChannel):
            model = Item
            lock_notifications = True

        for word in decorators:
            getattr(pgpubsub_sql, f"{word}_insert_listener")(Items)(lambda new: None)
        keep(safe_name(Items), row(None, item(1)))
        keep(safe_name(Items), row(item(1), None))
        run("adopt")
        found = [one.payload["when"] for one in Notification.from_channel(Items)]
        assert found == [when, "AFTER"]


def test_nothing_is_adopted_where_there_is_no_table(db: None) -> None:
    assert "nothing to adopt" in run("adopt")


def test_what_a_worker_of_theirs_has_in_hand_is_skipped(committed: None) -> None:
    keep(safe_name(Job), job(1))
    keep(safe_name(Job), job(2))
    theirs = connections.create_connection("default")
    theirs.set_autocommit(False)
    with closing(theirs), theirs.cursor() as cursor:
        cursor.execute("SELECT FROM pgpubsub_notification ORDER BY id LIMIT 1 FOR UPDATE")
        assert "1 message skipped" in run("adopt")
        theirs.rollback()
    assert [channel for _, channel, _ in left()] == [safe_name(Job)]
    run("adopt")
    assert [one.payload["number"] for one in Notification.from_channel(Job)] == [1, 2]


def test_adopting_wakes_workers(committed: None) -> None:
    keep(safe_name(Job), job())
    with Ear("app.Job") as ear:
        run("adopt")
        assert ear.notifies() == [Notify("app.Job", "")]


def test_adopted_messages_are_handled(committed: None, listen: Callable[..., Listen]) -> None:
    """M3"""
    keep(safe_name(Job), job("7"))
    keep(safe_name(ItemChannel), row(None, item(1, "Zoë")))
    run("adopt")
    listen("--channels", "app.Job", "app.ItemChannel").ready()
    eventually(lambda: not Notification.objects.exists())
    assert Entry.objects.get(listener="do_job").data["number"] == 7
    assert Entry.objects.get(listener="item_inserted").data["name"] == "Zoë"


@pytest.mark.usefixtures("old")
class TestBack:
    def test_adopted_messages_go_back_as_they_were(self) -> None:
        """M15"""
        stored = [
            (safe_name(Job), job(1)),
            (safe_name(ItemChannel), row(item(1), item(1, "new"), context={"user": 7})),
            (path(Job), '{"kwargs": {"number": 2}}'),
        ]
        for name, payload in stored:
            keep(name, payload)
        before = left()
        run("adopt")
        assert "--recover" in run("adopt", "--back", "--noinput")
        assert left() == before
        assert not Notification.objects.exists()

    def test_new_messages_go_back_in_the_old_form_after_those_before_them(self) -> None:
        """M15: without app and model its workers could not read them."""
        with pgpubsub_sql.notification_context({"user": 7}):
            Item.objects.create(name="new")
            notify(Job(number=2))
        keep(safe_name(Job), job(1))
        run("adopt")
        run("adopt", "--back", "--noinput")
        jobs = [payload for _, name, payload in left() if name == safe_name(Job)]
        assert [one["kwargs"]["number"] for one in jobs] == [1, 2]
        assert jobs[1] == {"kwargs": {"number": 2, "mood": "good"}}
        ((_, _, change),) = [one for one in left() if one[1] == safe_name(ItemChannel)]
        assert (change["app"], change["model"], change["old"]) == ("app", "Item", None)
        assert change["new"]["name"] == "new"
        assert change["context"] == {"user": 7}

    def test_the_copy_of_each_subscription_goes_back(self) -> None:
        """Their ids were no integers, which the old table has."""
        execute("INSERT INTO pgpubsub_sql_subscription (channel, name) VALUES ('app.Job', 'mail')")
        keep(safe_name(Job), job(1))
        notify(Job(number=2))
        run("adopt")
        assert Notification.from_channel(Job).count() == 4
        run("adopt", "--back", "--noinput")
        assert sorted(payload["kwargs"]["number"] for _, _, payload in left()) == [1, 1, 2, 2]

    def test_the_times_of_messages_go_back_too(self) -> None:
        """M15: its workers go by them, and its trigger sets them to now."""
        keep(safe_name(Job), job(1))
        run("adopt")
        run("adopt", "--back", "--noinput")
        assert execute("SELECT created_at FROM pgpubsub_notification") == [(LONG_AGO,)]

    def test_the_number_is_asked_about_first(self) -> None:
        notify(Job(number=1))
        with pytest.raises(CommandError, match="Give 1 message back"):
            run("adopt", "--back")

    def test_nothing_goes_back_if_nothing_is_stored(self) -> None:
        assert "nothing to give back" in run("adopt", "--back", "--noinput")


def test_messages_go_back_only_to_a_table(db: None) -> None:
    """M15"""
    notify(Job(number=1))
    with pytest.raises(CommandError, match="migrate pgpubsub"):
        run("adopt", "--back", "--noinput")
