"""Writers and a worker on a real server, step by step, in every order of their steps."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
import pytest

from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker.sleeping import Sleeper, SleepState

CHANNEL = "app.Interleaved"
LANE = Lane(CHANNEL)
STORE = f"SELECT pgpubsub_notify('{CHANNEL}', '{{}}')"
ENDS = ("COMMIT", "ROLLBACK", "ROLLBACK TO", "cancel", "kill")
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class Writer:
    """One transaction that stores a message, and ends somehow."""

    def __init__(self, database: str, level: str, end: str) -> None:
        self._connection = psycopg2.connect(dbname=database)
        self._connection.set_session(isolation_level=level)
        self._end = end

    def steps(self) -> Iterator[None]:
        """Store, then end."""
        with contextlib.closing(self._connection), self._connection.cursor() as cursor:
            if self._end == "ROLLBACK TO":
                cursor.execute("SAVEPOINT one")
            cursor.execute(STORE)
            yield
            self._finish(cursor)
            yield

    def _finish(self, cursor: Any) -> None:
        if self._end == "ROLLBACK TO":
            cursor.execute("ROLLBACK TO one")
            cursor.execute("COMMIT")
        elif self._end == "cancel":
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cursor.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(9)")
            self._connection.rollback()
        elif self._end == "kill":
            with pytest.raises(psycopg2.OperationalError):
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        else:
            cursor.execute(self._end)


class Session:
    """A LISTEN connection, and how many messages a worker has found."""

    def __init__(self, database: str) -> None:
        self.connection = psycopg2.connect(dbname=database)
        self.connection.autocommit = True
        self.sleeper = Sleeper([LANE])
        self.sql(f'LISTEN "{CHANNEL}"')
        self.sleeper.start(self.sql)

    def sql(self, statement: str, parameters: Any = None) -> list[Any]:
        """Execute a statement, and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def steps(self) -> Iterator[None]:
        """Go to sleep, as a worker does: look, lock S and wait for P, look again."""
        self._drowse()
        yield
        self.sleeper.fall_asleep(self.sql, patience=0)
        yield
        self._look()
        yield

    def deadly_steps(self, survived: int) -> Iterator[None]:
        """Take so many of these steps, and be killed."""
        yield from itertools.islice(self.steps(), survived)
        with pytest.raises(psycopg2.OperationalError):
            self.sql("SELECT pg_terminate_backend(pg_backend_pid())")
        self.connection.close()
        yield

    def begin_again(self) -> None:
        """Be awake, and release the locks of the order before."""
        self.sleeper.wake(LANE)
        self.sleeper.fall_asleep(self.sql)

    def state(self) -> SleepState:
        """How close to sleep it is."""
        return self.sleeper._states[LANE]

    def settle(self) -> None:
        """Go on until it sleeps, as nobody writes any more, and as long as it hears nothing."""
        while self.state() is not SleepState.ASLEEP and not self.has_heard():
            self._drowse()
            self.sleeper.fall_asleep(self.sql)
            self._look()

    def has_heard(self) -> bool:
        """Whether a NOTIFY has come."""
        self.sql("SELECT 1")
        return bool(self.connection.notifies)

    def _drowse(self) -> None:
        self.sleeper._awake_until[LANE] = 0.0
        self._look()

    def _look(self) -> None:
        taken = self.sql(
            "DELETE FROM pgpubsub_sql_notification WHERE channel = %s RETURNING id", [CHANNEL]
        )
        self.sleeper.polled(LANE, found=bool(taken))


def orders(*lengths: int) -> Iterator[Sequence[int]]:
    """Yield every order of the steps of several programs with so many steps each."""
    steps = [index for index, length in enumerate(lengths) for _ in range(length)]
    yield from sorted(set(itertools.permutations(steps)))


def some_orders(count: int, *lengths: int) -> Iterator[Sequence[int]]:
    """Yield so many orders of these, drawn at random, the same in each run."""
    dice = random.Random(repr(lengths))
    steps = [index for index, length in enumerate(lengths) for _ in range(length)]
    for _ in range(count):
        dice.shuffle(steps)
        yield tuple(steps)


def run_in_order(programs: Sequence[Iterator[None]], order: Sequence[int]) -> None:
    """Take a step of these programs one by one, and then what is left of each."""
    for index in order:
        next(programs[index])
    for program in programs:
        next(program, None)


def waiting(session: Session) -> int:
    """Return how many messages nobody has found."""
    ((count,),) = session.sql("SELECT count(*) FROM pgpubsub_sql_notification")
    return int(count)


@pytest.fixture
def database(transactional_db: None) -> str:
    from django.db import connection

    return str(connection.settings_dict["NAME"])


@pytest.mark.parametrize(
    ("level", "ends"),
    [
        ("READ COMMITTED", ["COMMIT", "COMMIT"]),
        ("READ COMMITTED", ["COMMIT", "ROLLBACK TO"]),
        *((level, [end]) for level in LEVELS for end in ENDS),
    ],
)
def test_a_sleeping_worker_is_woken_in_every_order_of_steps(
    database: str, level: str, ends: list[str]
) -> None:
    session = Session(database)
    for order in orders(*(2 for _ in ends), 3):
        session.begin_again()
        programs = [Writer(database, level, end).steps() for end in ends]
        run_in_order([*programs, session.steps()], order)
        session.settle()
        assert not waiting(session) or session.has_heard(), order
        session.sql("DELETE FROM pgpubsub_sql_notification")
        session.connection.notifies.clear()
    session.connection.close()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_one_of_several_sleeping_workers_is_woken(database: str, level: str, workers: int) -> None:
    """Two writers, and orders of their steps drawn at random: of eight workers, there are 10^25."""
    sessions = [Session(database) for _ in range(workers)]
    for order in some_orders(400 // workers, 2, 2, *(3 for _ in sessions)):
        for session in sessions:
            session.begin_again()
        programs = [Writer(database, level, "COMMIT").steps() for _ in range(2)]
        run_in_order([*programs, *(session.steps() for session in sessions)], order)
        for session in sessions:
            session.settle()
        heard = [session.has_heard() for session in sessions]
        assert not waiting(sessions[0]) or any(heard), order
        sessions[0].sql("DELETE FROM pgpubsub_sql_notification")
        for session in sessions:
            session.has_heard()
            session.connection.notifies.clear()
    for session in sessions:
        session.connection.close()


@pytest.mark.parametrize("survived", [0, 1, 2, 3])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK TO", "kill"])
def test_a_worker_that_is_killed_takes_nobodys_sleep_and_nobodys_message(
    database: str, end: str, survived: int
) -> None:
    """Whichever steps it has taken: the other one hears of the message, or finds it."""
    session = Session(database)
    for order in some_orders(60, 2, 3, survived + 1):
        session.begin_again()
        other = Session(database)
        programs = [Writer(database, "READ COMMITTED", end).steps(), session.steps()]
        run_in_order([*programs, other.deadly_steps(survived)], order)
        session.settle()
        assert not waiting(session) or session.has_heard(), order
        session.sql("DELETE FROM pgpubsub_sql_notification")
        session.has_heard()
        session.connection.notifies.clear()
    session.connection.close()
