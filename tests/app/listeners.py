"""Listeners that write down what they were called with."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection, transaction

import pgpubsub_sql
from tests import patience  # noqa: F401 - in each worker, too
from tests.app.channels import ItemChannel, ItemNews, Job, Load, Shout, Step, UserChannel
from tests.app.models import Entry, Item
from tests.ledger import copy


def note(listener: str, **data: Any) -> None:
    """Write into the ledger, within the transaction of the message."""
    Entry.objects.create(listener=listener, data=data)


def execute(statement: str) -> None:
    connection.cursor().execute(statement)


def fail(message: str) -> None:
    raise RuntimeError(message)


def raise_(error: Exception) -> None:
    raise error


def swallow() -> None:
    with contextlib.suppress(DatabaseError):
        execute("SELECT no_such_column")


def hang() -> None:
    """Wait for the lock in Python, where signals are noticed; not in the driver, as "wait" does."""
    logging.getLogger(__name__).info("this listener hangs")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(77)")
        while cursor.fetchone() != (True,):
            threading.Event().wait(0.01)
            cursor.execute("SELECT pg_try_advisory_xact_lock(77)")


def call_back() -> None:
    transaction.on_commit(lambda: fail("this callback is in a bad mood"))
    transaction.on_commit(lambda: note("called back"))


def close() -> None:
    connection.close()


def raw_cursor() -> Any:
    """A cursor as the driver makes it, and Django does not see."""
    return connection.connection.cursor()


def unseen_cursor() -> Any:
    """A cursor that nobody sees: made of its class, not by the connection."""
    psycopg2 = getattr(connection.Database, "extensions", None)
    made_of = psycopg2.cursor if psycopg2 else connection.Database.Cursor
    return made_of(connection.connection)


def copy_entries(rows: str) -> None:
    """COPY *rows* into the ledger, which takes no part in Django's wrapper around queries."""
    copy("COPY app_entry (listener, data, pid) FROM STDIN", rows)


def copy_then_fail() -> None:
    copy_entries("copied\t{}\t0\n")
    fail("after a COPY")


def write_raw_then_fail() -> None:
    raw_cursor().execute("INSERT INTO app_entry (listener, data, pid) VALUES ('raw', '{}', 0)")
    fail("after a write past Django")


def catch_outside_atomic() -> None:
    with contextlib.suppress(RuntimeError), transaction.atomic(savepoint=False):
        fail("inside a block without a savepoint")


def catch_inside_atomic() -> None:
    """What may fail is in a block of its own: nobody needs to know."""
    with contextlib.suppress(DatabaseError), transaction.atomic():
        execute("SELECT no_such_column")


def durably() -> None:
    with transaction.atomic(durable=True):
        note("durable")


def never_leave() -> None:
    transaction.atomic().__enter__()


def commit_raw() -> None:
    connection.connection.commit()


def commit_raw_then_fail() -> None:
    commit_raw()
    fail("after a COMMIT")


def commit_raw_then_write() -> None:
    commit_raw()
    unseen_cursor().execute("SELECT 1")


def rollback_raw_then_write() -> None:
    connection.connection.rollback()
    unseen_cursor().execute("SELECT 1")


def rollback_raw_then_write_seen() -> None:
    """The write is one of Django's, and begins a transaction that is not the batch's."""
    connection.connection.rollback()
    note("after a rollback")


def write_in_a_thread() -> None:
    """A thread has connections of its own, which it has to close itself."""

    def write() -> None:
        note("thread")
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def write_elsewhere() -> None:
    Entry.objects.using("other").create(listener="elsewhere", data={})


def raising(code: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$"


def run_too_long() -> None:
    execute("SET LOCAL statement_timeout = '20ms'")
    execute("SELECT pg_sleep(60)")


def call_back_then_fail() -> None:
    transaction.on_commit(lambda: note("never called back"))
    transaction.on_commit(lambda: note("never called back"), robust=True)
    fail("after having asked for a callback")


def print_a_word() -> None:
    print("a word")


def parents() -> None:
    """What a listener does with child processes, each by the means it has."""
    note("start method", name=multiprocessing.get_start_method())
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    process = multiprocessing.Process(target=time.sleep, args=[60])
    process.start()
    process.terminate()
    process.join()
    note("terminated", code=process.exitcode)
    program = subprocess.Popen(["sleep", "60"])
    program.send_signal(signal.SIGINT)
    note("interrupted", code=program.wait())


def is_usual(handler: Any) -> bool:
    """Is this what a process has by itself? ``make coverage`` gives each a handler of its own."""
    return handler == signal.SIG_DFL or getattr(handler, "__module__", "") == "coverage.control"


def parent_of_one_that_writes() -> None:
    """The child uses a connection of its own, and Django opens it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            note("child", handler=is_usual(signal.getsignal(signal.SIGTERM)))
            connection.close()
            note("child", handler=signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            status = 0
        finally:
            os._exit(status)
    note("parent", status=os.waitpid(child, 0)[1])


def parent_of_one_that_returns() -> None:
    if os.fork():
        os.wait()


def parent_of_one_that_exits() -> None:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()


def parent_of_one_that_stays() -> None:
    """A child that outlives the worker, and a listener that waits until the worker is killed."""
    if os.fork() == 0:
        signal.pause()
    execute(WAIT)


def take_the_signals() -> None:
    """As a library does that believes the process to be its own, or that runs an event loop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def wait_and_ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    execute(WAIT)


def in_both_ways(function: Callable[[], object]) -> None:
    transaction.on_commit(function)
    transaction.on_commit(function, robust=True)


DANGLING = "INSERT INTO blog_post (author_id, title, content) VALUES (-1, '', '')"
"""Breaks a foreign key, which Django defers to the end of the transaction."""

WAIT = "SELECT pg_advisory_xact_lock(77)"

MOODS: dict[str, Callable[[], object]] = {
    "good": lambda: None,
    "async": lambda: None,
    "quiet": lambda: None,
    "bad": lambda: fail("this listener is in a bad mood"),
    "bad at first": lambda: fail("only the second time"),
    "strange": lambda: fail("\0 and \udcff"),
    "broken-sql": lambda: execute("SELECT no_such_column"),
    "swallowed": swallow,
    "caught": catch_inside_atomic,
    "dangling": lambda: execute(DANGLING),
    "rollback": lambda: transaction.set_rollback(True),
    "savepoint-less": catch_outside_atomic,
    "never left": never_leave,
    "durable": durably,
    "call back": call_back,
    "call back and fail": call_back_then_fail,
    "call back both": lambda: in_both_ways(lambda: note("called back")),
    "call back badly": lambda: in_both_ways(lambda: fail("this callback is in a bad mood")),
    "raw error": lambda: raw_cursor().execute("SELECT no_such_column"),
    "raw write": write_raw_then_fail,
    "copy": lambda: copy_entries("one column\n"),
    "copy and fail": copy_then_fail,
    "callproc": lambda: connection.cursor().callproc("no_such_function"),
    "too long": run_too_long,
    "unseen error": lambda: unseen_cursor().execute("SELECT no_such_column"),
    "unseen dangling": lambda: unseen_cursor().execute(DANGLING),
    "close": close,
    "roll back raw": lambda: connection.connection.rollback(),
    "roll back raw and write": rollback_raw_then_write,
    "roll back raw and write seen": rollback_raw_then_write_seen,
    "commit raw": commit_raw,
    "commit raw and fail": commit_raw_then_fail,
    "commit raw and write": commit_raw_then_write,
    "COMMIT": lambda: execute("COMMIT"),
    "serialization": lambda: execute(raising("serialization_failure")),
    "deadlock": lambda: execute(raising("deadlock_detected")),
    "unseen deadlock": lambda: unseen_cursor().execute(raising("deadlock_detected")),
    "terminate": lambda: execute("SELECT pg_terminate_backend(pg_backend_pid())"),
    "thread": write_in_a_thread,
    "elsewhere": write_elsewhere,
    "retry after": lambda: raise_(pgpubsub_sql.RetryAfter(1000)),
    "discard": lambda: raise_(pgpubsub_sql.Discard("it came too late")),
    "wait": lambda: execute(WAIT),
    "hang": hang,
    "freeze": lambda: ctypes.PyDLL(None).sleep(3600),
    "hang in a callback": lambda: transaction.on_commit(hang),
    "exit": lambda: sys.exit(3),
    "die": lambda: os._exit(7),
    "vanish": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill all": lambda: os.killpg(0, signal.SIGKILL),
    "print": print_a_word,
    "parents": parents,
    "fork": parent_of_one_that_writes,
    "fork and return": parent_of_one_that_returns,
    "fork and exit": parent_of_one_that_exits,
    "fork and stay": parent_of_one_that_stays,
    "leave an orphan": lambda: subprocess.run(["sh", "-c", "sleep 0 &"], check=True),
    "signals": take_the_signals,
    "ignore SIGTERM": wait_and_ignore_sigterm,
}
"""What a test may want a listener to do."""

SILENT = (
    *("quiet", "copy", "copy and fail", "callproc", "raw error", "raw write"),
    *("unseen error", "unseen dangling", "unseen deadlock", "commit raw and write"),
    "roll back raw and write seen",
)
"""Moods in which nothing is asked of the database but what the mood is about."""

called: list[int] = []
"""The numbers with which :func:`behave` was called: what no rollback undoes."""


def behave(mood: str, number: int = 0) -> None:
    called.append(number)
    MOODS[mood]()


@pgpubsub_sql.listener(Job)
def do_job(number: int, mood: str, notification: pgpubsub_sql.Notification, context: dict) -> None:
    if mood not in SILENT:
        note("do_job", number=number, attempts=notification.attempts, context=dict(context))
    behave(mood, number)


@pgpubsub_sql.listener(Step)
def step(account: str, number: int, mood: str, notification: pgpubsub_sql.Notification) -> None:
    if mood not in SILENT:
        note("step", account=account, number=number, attempts=notification.attempts)
    behave("good" if mood == "bad at first" and notification.attempts else mood, number)


lists: list[list[int]] = []
"""The numbers with which a batch listener was called: what no rollback undoes."""


@pgpubsub_sql.batch_listener(Load)
def load(messages: list[Load]) -> None:
    unload("load", messages)


def unload(listener: str, messages: list[Any]) -> None:
    """Write all into the ledger at once; then do what the mood of each says."""
    lists.append([one.number for one in messages])
    Entry.objects.bulk_create(
        Entry(listener=listener, data={"number": one.number}) for one in messages
    )
    for one in messages:
        MOODS[one.mood]()


@pgpubsub_sql.listener(Shout)
def hear(**fields: Any) -> None:
    types = {name: type(value).__name__ for name, value in fields.items()}
    note("hear", number=fields["number"], fields=sorted(fields), types=types)
    behave(fields["mood"])


@pgpubsub_sql.listener("app.Shout")
def hear_only_number(number: int, extra: str = "a default") -> None:
    note("hear_only_number", number=number, extra=extra)


@pgpubsub_sql.listener(Shout)
async def hear_async(number: int, mood: str) -> None:
    if mood == "async":
        await Entry.objects.acreate(listener="hear_async", data={"number": number})


@pgpubsub_sql.post_insert_listener(ItemChannel)
def item_inserted(old: Item | None, new: Item) -> None:
    assert old is None
    note("item_inserted", name=new.name, amount=str(new.amount), data=new.data)


@pgpubsub_sql.post_update_listener("tests.app.channels.ItemChannel")
def item_updated(old: Item, new: Item, context: dict) -> None:
    note("item_updated", old=old.name, new=new.name, context=dict(context))


@pgpubsub_sql.post_delete_listener(ItemChannel)
def item_deleted(old: Item) -> None:
    note("item_deleted", name=old.name)


@pgpubsub_sql.post_save_listener(ItemChannel)
def item_saved(new: Item, **kwargs: Any) -> None:
    note("item_saved", name=new.name, kwargs=sorted(kwargs))
    behave(new.data.get("mood", "good"))


@pgpubsub_sql.post_save_listener(ItemNews)
def news(new: Item) -> None:
    note("news", name=new.name)


def twice(function: Any) -> Any:
    """A decorator above ours, which must not be bypassed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        function(*args, **kwargs)

    return call


@twice
@pgpubsub_sql.post_insert_listener(UserChannel)
def user_inserted(new: Any) -> None:
    note("user_inserted", name=new.username)
