"""The doorbell as a model: every step of writers and workers, in every order.

A writer stores one message and commits it or rolls it back. A worker looks, goes to sleep and wakes
up, for ever; it may die at any time. Each function below is one step that PostgreSQL takes as a
whole, so anything may happen between two of them. :func:`lost_wakeups` visits every state that can
be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

NO_P = "the writer does not take P"
S_BEFORE_P = "the writer tests S before it takes P"
P_RELEASED_EARLY = "the writer releases P before its message is visible"
NO_TEST_OF_S = "the writer does not test S"
NO_S = "the worker does not take S"
NO_WAIT_FOR_P = "the worker does not wait for P"
P_BEFORE_S = "the worker waits for P before it takes S"
NO_SECOND_LOOK = "the worker does not look once it has waited for P"
FORGETFUL = "the worker forgets what it has heard before it sleeps"

FLAWS = (
    NO_P,
    S_BEFORE_P,
    P_RELEASED_EARLY,
    NO_TEST_OF_S,
    NO_S,
    NO_WAIT_FOR_P,
    P_BEFORE_S,
    NO_SECOND_LOOK,
    FORGETFUL,
)
"""Ways to get the protocol wrong. Each of them loses a wake-up."""


class Writing(Enum):
    """What a writer does next."""

    STORE, TRY_P, TEST_S, UNLOCK_S, COMMIT, RELEASE_P, NOTIFY, DONE = range(8)


class Working(Enum):
    """What a worker does next."""

    LOOK, TRY_S, WAIT_FOR_P, RELEASE_P, LOOK_AGAIN, SLEEP, RELEASE_S, DEAD = range(8)


class Message(Enum):
    """What has become of a writer's message."""

    UNSTORED, UNCOMMITTED, VISIBLE, HANDLED, ROLLED_BACK = range(5)


@dataclass(frozen=True, slots=True)
class Writer:
    """One transaction that stores one message."""

    next: Writing = Writing.STORE
    message: Message = Message.UNSTORED
    rings: bool = False
    holds_p: bool = False
    holds_s: bool = False


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that handles messages."""

    next: Working = Working.LOOK
    heard: bool = False
    holds_p: bool = False
    holds_s: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """All of them at one time."""

    writers: tuple[Writer, ...]
    workers: tuple[Worker, ...]

    @property
    def is_lost(self) -> bool:
        """Whether a message waits, every worker sleeps, and nothing will wake one."""
        asleep = [one for one in self.workers if one.next is not Working.DEAD]
        return (
            all(one.next is Writing.DONE for one in self.writers)
            and any(one.message is Message.VISIBLE for one in self.writers)
            and bool(asleep)
            and all(one.next is Working.SLEEP and not one.heard for one in asleep)
        )

    def with_writer(self, index: int, **changes: object) -> State:
        """Return the state after a step of one writer."""
        changed = replace(self.writers[index], **changes)
        return replace(self, writers=_put(self.writers, index, changed))

    def with_worker(self, index: int, **changes: object) -> State:
        """Return the state after a step of one worker."""
        changed = replace(self.workers[index], **changes)
        return replace(self, workers=_put(self.workers, index, changed))

    def look(self, index: int, *, found: Working, empty: Working) -> State:
        """Let a worker handle all that it sees, and go on according to what there was."""
        is_found = any(one.message is Message.VISIBLE for one in self.writers)
        handled = tuple(
            replace(one, message=Message.HANDLED) if one.message is Message.VISIBLE else one
            for one in self.writers
        )
        state = replace(self, writers=handled)
        return state.with_worker(index, next=found if is_found else empty)


Step = Callable[[State, int, str], Iterator[State]]


def _put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])


# --- A writer -------------------------------------------------------------------------------------


def _store(state: State, index: int, flaw: str) -> Iterator[State]:
    is_early = flaw in (S_BEFORE_P, NO_P)
    then = Writing.TEST_S if is_early else Writing.TRY_P
    yield state.with_writer(index, message=Message.UNCOMMITTED, next=then)


def _try_p(state: State, index: int, flaw: str) -> Iterator[State]:
    then = Writing.COMMIT if flaw in (S_BEFORE_P, NO_TEST_OF_S) else Writing.TEST_S
    is_held = any(one.holds_p for one in state.workers)
    if not is_held:
        yield state.with_writer(index, holds_p=True, next=then)
    if is_held or any(one.next is Working.WAIT_FOR_P for one in state.workers):
        # Also where somebody merely waits: a request that is not granted keeps others out.
        yield state.with_writer(index, rings=True, next=Writing.COMMIT)


def _test_s(state: State, index: int, flaw: str) -> Iterator[State]:
    if any(one.holds_s for one in (*state.workers, *state.writers)):
        yield state.with_writer(index, rings=True, next=Writing.COMMIT)
    else:
        yield state.with_writer(index, holds_s=True, next=Writing.UNLOCK_S)


def _unlock_s(state: State, index: int, flaw: str) -> Iterator[State]:
    then = Writing.TRY_P if flaw == S_BEFORE_P else Writing.COMMIT
    yield state.with_writer(index, holds_s=False, next=then)


def _commit(state: State, index: int, flaw: str) -> Iterator[State]:
    yield state.with_writer(index, message=Message.ROLLED_BACK, rings=False, next=Writing.RELEASE_P)
    if flaw == P_RELEASED_EARLY and state.writers[index].holds_p:
        yield state.with_writer(index, holds_p=False)
    else:
        yield state.with_writer(index, message=Message.VISIBLE, next=Writing.RELEASE_P)


def _release_p(state: State, index: int, flaw: str) -> Iterator[State]:
    yield state.with_writer(index, holds_p=False, next=Writing.NOTIFY)


def _notify(state: State, index: int, flaw: str) -> Iterator[State]:
    if state.writers[index].rings:
        heard = tuple(replace(one, heard=True) for one in state.workers)
        state = replace(state, workers=heard)
    yield state.with_writer(index, next=Writing.DONE)


# --- A worker -------------------------------------------------------------------------------------


def _look(state: State, index: int, flaw: str) -> Iterator[State]:
    then = Working.WAIT_FOR_P if flaw in (NO_S, P_BEFORE_S) else Working.TRY_S
    yield state.look(index, found=Working.LOOK, empty=then)


def _try_s(state: State, index: int, flaw: str) -> Iterator[State]:
    then = Working.LOOK_AGAIN if flaw in (P_BEFORE_S, NO_WAIT_FOR_P) else Working.WAIT_FOR_P
    if any(one.holds_s for one in state.writers):
        yield state.with_worker(index, next=Working.LOOK)
    else:
        yield state.with_worker(index, holds_s=True, next=then)


def _wait_for_p(state: State, index: int, flaw: str) -> Iterator[State]:
    if not any(one.holds_p for one in (*state.writers, *state.workers)):
        yield state.with_worker(index, holds_p=True, next=Working.RELEASE_P)
    # Not had in time: the worker keeps looking, and keeps S.
    yield state.look(index, found=Working.RELEASE_S, empty=Working.WAIT_FOR_P)


def _let_go_of_p(state: State, index: int, flaw: str) -> Iterator[State]:
    then = {P_BEFORE_S: Working.TRY_S, NO_SECOND_LOOK: Working.SLEEP}.get(flaw, Working.LOOK_AGAIN)
    yield state.with_worker(index, holds_p=False, next=then)


def _look_again(state: State, index: int, flaw: str) -> Iterator[State]:
    yield state.look(index, found=Working.RELEASE_S, empty=Working.SLEEP)


def _sleep(state: State, index: int, flaw: str) -> Iterator[State]:
    if state.workers[index].heard:
        yield state.with_worker(index, heard=False, next=Working.RELEASE_S)
        if flaw == FORGETFUL:
            yield state.with_worker(index, heard=False)


def _release_s(state: State, index: int, flaw: str) -> Iterator[State]:
    yield state.with_worker(index, holds_s=False, next=Working.LOOK)


WRITER: dict[Writing, Step] = {
    Writing.STORE: _store,
    Writing.TRY_P: _try_p,
    Writing.TEST_S: _test_s,
    Writing.UNLOCK_S: _unlock_s,
    Writing.COMMIT: _commit,
    Writing.RELEASE_P: _release_p,
    Writing.NOTIFY: _notify,
}
WORKER: dict[Working, Step] = {
    Working.LOOK: _look,
    Working.TRY_S: _try_s,
    Working.WAIT_FOR_P: _wait_for_p,
    Working.RELEASE_P: _let_go_of_p,
    Working.LOOK_AGAIN: _look_again,
    Working.SLEEP: _sleep,
    Working.RELEASE_S: _release_s,
}


# --- All of them ----------------------------------------------------------------------------------


def steps(state: State, flaw: str) -> Iterator[State]:
    """Yield every state to which one step of anybody leads."""
    for index, writer in enumerate(state.writers):
        if writer.next in WRITER:
            yield from WRITER[writer.next](state, index, flaw)
    for index, worker in enumerate(state.workers):
        if worker.next in WORKER:
            yield from WORKER[worker.next](state, index, flaw)
            # A worker may die at any time; the server then releases its locks.
            yield state.with_worker(index, next=Working.DEAD, holds_p=False, holds_s=False)


def lost_wakeups(writers: int, workers: int, flaw: str = "") -> tuple[int, list[State]]:
    """Return the number of states that can be reached, and those in which a wake-up is lost."""
    first = State((Writer(),) * writers, (Worker(),) * workers)
    seen, waiting, lost = {first}, [first], []
    while waiting:
        state = waiting.pop()
        if state.is_lost:
            lost.append(state)
        for one in steps(state, flaw):
            # Who is who makes no difference: states that differ in the order alone are one.
            one = State(
                tuple(sorted(one.writers, key=_rank)), tuple(sorted(one.workers, key=_rank))
            )
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return len(seen), lost


def _rank(one: Writer | Worker) -> tuple[object, ...]:
    return tuple(
        value.value if isinstance(value, Enum) else value
        for value in (getattr(one, name) for name in one.__slots__)
    )
