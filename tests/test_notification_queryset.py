"""``Notification.objects``: messages by state, and what is done to them."""

from __future__ import annotations

import datetime

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from pgpubsub_sql.models import Notification, State
from pgpubsub_sql.worker.doorbell import Notify
from tests.app.channels import Job
from tests.registries import Ear
from tests.stored import HOUR, NAME, ids, in_flight, park, retrying, store


class TestStates:
    def test_each_message_is_in_one_state(self, transactional_db: None) -> None:
        """The annotation, the filters and the state that each filter means agree."""
        rows = {
            State.READY: store(),
            State.DELAYED: store(available_at=timezone.now() + HOUR),
            State.RETRYING: retrying(),
            State.PARKED: park(),
            State.IN_FLIGHT: park(),
        }
        with in_flight(rows[State.IN_FLIGHT].pk):
            found = Notification.objects.with_state()
            assert {row.pk: row.state for row in found} == {r.pk: s for s, r in rows.items()}
            for state, row in rows.items():
                assert ids(*Notification.objects.in_state(state)) == ids(row)
            for state in (State.READY, State.RETRYING, State.PARKED):
                assert ids(*getattr(Notification.objects, state)()) == ids(rows[state])
            waiting = rows[State.DELAYED], rows[State.RETRYING]
            assert ids(*Notification.objects.waiting()) == ids(*waiting)
        assert ids(*Notification.objects.parked()) == ids(rows[State.PARKED], rows[State.IN_FLIGHT])

    def test_a_message_locked_by_its_own_session_is_not_in_flight(self, db: None) -> None:
        row = store()
        Notification.objects.select_for_update().get()
        assert ids(*Notification.objects.ready()) == ids(row)

    def test_ready_is_judged_when_the_statement_starts_not_the_transaction(self, db: None) -> None:
        """In an old transaction, now() would hide what has become ready since it began."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT now()")
            store()
            cursor.execute("UPDATE pgpubsub_sql_notification SET available_at = clock_timestamp()")
        assert Notification.objects.ready().count() == 1


class TestBeforeMigration:
    """P15: whether a message predates a migration is known without a look-up for each write."""

    def test_messages_are_compared_with_the_time_it_was_applied(self, db: None) -> None:
        applied = MigrationRecorder(connection).applied_migrations()["app", "0001_initial"].applied
        before = store(created_at=applied - datetime.timedelta(seconds=1))
        store(created_at=applied + datetime.timedelta(seconds=1))
        assert ids(*Notification.objects.before_migration("app", "0001_initial")) == ids(before)

    def test_all_messages_are_before_one_that_was_never_applied(self, db: None) -> None:
        MigrationRecorder(connection).record_unapplied("app", "0001_initial")
        row = store()
        assert ids(*Notification.objects.before_migration("app", "0001_initial")) == ids(row)

    def test_an_unknown_migration_is_an_error(self, db: None) -> None:
        with pytest.raises(LookupError, match="The app 'app' has no migration '0999_nothing'"):
            Notification.objects.before_migration("app", "0999_nothing")


class TestVerbs:
    def test_replay_resets_attempts_and_notifies_workers(self, transactional_db: None) -> None:
        parked, other = park(), park(channel="app.ItemChannel")
        with Ear(NAME) as ear:
            assert Notification.from_channel(Job).parked().replay() == 1
            assert ear.notifies() == [Notify(NAME, "")]
        parked.refresh_from_db()
        other.refresh_from_db()
        assert (parked.attempts, other.attempts) == (0, 10)
        assert ids(*Notification.objects.ready()) == ids(parked)

    def test_replay_forgets_the_failure_and_retry_remembers_it(self, db: None) -> None:
        row = retrying()
        assert Notification.objects.failed().retry() == 1
        assert ids(*Notification.objects.failed().filter(reason="ValueError")) == ids(row)
        assert Notification.objects.failed().replay() == 1
        assert not Notification.objects.failed().exists()
        row.refresh_from_db()
        assert (row.attempts, row.last_error, row.reason, row.failed_at) == (0, "", "", None)

    def test_replay_makes_waiting_messages_ready(self, db: None) -> None:
        waiting = store(available_at=timezone.now() + datetime.timedelta(hours=1), attempts=3)
        assert Notification.objects.waiting().replay() == 1
        (row,) = Notification.objects.ready()
        assert (row.pk, row.attempts) == (waiting.pk, 0)

    def test_discard_deletes_only_what_is_selected(self, db: None) -> None:
        kept, _ = store(), park()
        assert Notification.objects.parked().discard() == 1
        assert ids(*Notification.objects.all()) == ids(kept)

    def test_move_notifies_workers_of_the_new_channel(self, transactional_db: None) -> None:
        old, here = store(channel="app.Renamed"), store()
        with Ear(NAME) as ear:
            assert Notification.objects.all().move(Job) == 1
            assert ear.notifies() == [Notify(NAME, "")]
        assert ids(*Notification.from_channel(Job)) == ids(old, here)

    def test_messages_in_flight_are_left_alone(self, transactional_db: None) -> None:
        held, _, _ = park(), park(), store()
        with in_flight(held.pk):
            assert Notification.objects.parked().discard() == 1
            assert Notification.objects.all().discard() == 1
        assert ids(*Notification.objects.all()) == ids(held)

    def test_many_messages_are_changed_in_transactions_of_a_thousand(
        self, transactional_db: None
    ) -> None:
        Notification.objects.bulk_create(
            Notification(channel=NAME, payload={}, available_at=None) for _ in range(2500)
        )
        done: list[int] = []
        assert Notification.objects.parked().replay(progress=done.append) == 2500
        assert done == [1000, 2000, 2500]
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(DISTINCT xmin::text) FROM pgpubsub_sql_notification")
            assert cursor.fetchone() == (3,)
