"""Connections and cursors of the driver that somebody has wrapped: tools that watch, and pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.db import connection, connections

from pgpubsub_sql.worker.delivery import Delivery
from tests.app import listeners
from tests.app.listeners import called
from tests.delivery.sending import drain, hasten, jobs
from tests.delivery.test_isolation import INNOCENT, UNDOES_ITS_BATCH, UNDONE_BY_ITSELF
from tests.ledger import calls, numbers, sql, stored
from tests.workers import hear

pytestmark = pytest.mark.django_db(transaction=True)


class ObjectProxy:
    """As wrapt's, which elastic-apm, newrelic and ddtrace derive theirs from."""

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "__wrapped__", wrapped)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.__wrapped__.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __enter__(self) -> Any:
        return self.__wrapped__.__enter__()

    def __exit__(self, *exception: object) -> Any:
        return self.__wrapped__.__exit__(*exception)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__wrapped__)


class CursorProxy(ObjectProxy):
    """Notes what is executed."""

    executed: ClassVar[list[str]] = []

    def execute(self, statement: Any, *arguments: Any, **named: Any) -> Any:
        self.executed.append(str(statement))
        return self.__wrapped__.execute(statement, *arguments, **named)


class ConnectionProxy(ObjectProxy):
    """Hands out proxies of cursors."""

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        return CursorProxy(self.__wrapped__.cursor(*arguments, **named))


class PooledConnection:
    """As a pool's, which passes on what is asked for, and keeps to itself what is set."""

    def __init__(self, wrapped: Any) -> None:
        self.dbapi_connection = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dbapi_connection, name)

    @property
    def autocommit(self) -> bool:
        return bool(self.dbapi_connection.autocommit)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.dbapi_connection.autocommit = value


class SlottedConnection(PooledConnection):
    """And which takes nothing else."""

    __slots__ = ("dbapi_connection",)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("dbapi_connection", "autocommit"):
            raise AttributeError(f"{name} cannot be set")
        super().__setattr__(name, value)


WRAPPERS: list[Callable[[Any], Any]] = [ConnectionProxy, PooledConnection, SlottedConnection]


@pytest.fixture(params=WRAPPERS)
def wrapped(
    request: pytest.FixtureRequest, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Have the driver's connections wrapped in one of these ways."""
    wrapper: Any = connections["default"]
    connect = wrapper.get_new_connection
    connection.close()
    monkeypatch.setattr(wrapper, "get_new_connection", lambda given: request.param(connect(given)))
    yield request.param
    connection.close()


MOODS = {*UNDONE_BY_ITSELF, *UNDOES_ITS_BATCH, *INNOCENT} - {"unseen deadlock"}
"""A cursor made of its class wants the driver's own connection, so that one fails for itself."""


@pytest.mark.usefixtures("wrapped")
@pytest.mark.parametrize("mood", sorted(MOODS))
def test_a_failing_message_is_undone_on_a_wrapped_connection(delivery: Delivery, mood: str) -> None:
    """F37: by itself, or along with its batch where nobody can tell what it has written."""
    jobs("good", mood, "quiet", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 4]
    assert not calls("raw")
    assert not calls("copied")
    ((number, row),) = stored().items()
    assert number == 2
    assert row.attempts == (0 if mood in INNOCENT else 1)
    assert max(called.count(one) for one in called) <= 2


def test_a_transparent_wrapper_shows_cursors_as_a_bare_connection_does(
    delivery: Delivery, wrapped: Any
) -> None:
    """F37: cursors that Django does not see are noticed there as in a bare connection."""
    jobs("good", "raw write", "copy and fail", "good")
    drain(delivery)
    assert numbers("do_job") == [1, 4]
    is_whole = called == [1, 2, 3, 4]
    assert is_whole == (wrapped is ConnectionProxy)


def test_a_tool_sees_statements_as_they_are(delivery: Delivery, wrapped: Any) -> None:
    """F37: ours, too, but for a savepoint that rides in front of a statement of the listener."""
    jobs("good")
    drain(delivery)
    jobs("good", "good")
    CursorProxy.executed.clear()
    drain(delivery)
    inserts = [one for one in CursorProxy.executed if "app_entry" in one]
    endings = [one for one in CursorProxy.executed if "RELEASE SAVEPOINT pgpubsub" in one]
    expected = 2 if wrapped is ConnectionProxy else 0
    assert (len(inserts), len(endings)) == (expected, expected)
    assert all(one.startswith("INSERT INTO") for one in inserts)


@pytest.mark.usefixtures("wrapped")
@pytest.mark.parametrize(
    "leave", ["SET search_path = public, nowhere", "SET default_transaction_read_only = on"]
)
def test_the_session_is_restored_on_a_wrapped_connection(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    """F37, F41: on whatever cursor, before anything is put back."""
    monkeypatch.setattr(listeners, "SILENT", ("leave",))
    monkeypatch.setitem(listeners.MOODS, "leave", lambda: listeners.raw_cursor().execute(leave))
    jobs("leave", "bad")
    drain(delivery)
    assert sorted(stored()) == [2]
    hasten()
    drain(delivery)
    hear(delivery, "app.Shout", '{"number": 1, "mood": "leave"}')
    assert sql("SHOW default_transaction_read_only") == [("off",)]
    assert "nowhere" not in sql("SHOW search_path")[0][0]
    assert numbers("hear") == [1]


@pytest.mark.usefixtures("wrapped")
def test_an_ephemeral_message_is_handled_on_a_wrapped_connection(delivery: Delivery) -> None:
    """F37."""
    for number, mood in enumerate(["good", "raw write", "copy and fail", "close", "good"]):
        hear(delivery, "app.Shout", f'{{"number": {number}, "mood": "{mood}"}}')
    assert numbers("hear") == [0, 4]
    assert not calls("raw")
    assert not calls("copied")
