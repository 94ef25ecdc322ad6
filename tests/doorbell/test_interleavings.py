"""Writers and a worker on a real server, step by step, in every order of their steps."""

from __future__ import annotations

import contextlib
import itertools
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
        session.sleeper.wake(LANE)
        session.sleeper.fall_asleep(session.sql)  # releases the lock of the order before
        programs = [Writer(database, level, end).steps() for end in ends]
        programs.append(session.steps())
        for index in order:
            next(programs[index])
        for program in programs:
            next(program, None)
        session.settle()
        assert not waiting(session) or session.has_heard(), order
        session.sql("DELETE FROM pgpubsub_sql_notification")
        session.connection.notifies.clear()
    session.connection.close()
