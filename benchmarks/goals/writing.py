"""Goals 4 and 5: what a channel costs those who write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

from benchmarks.children import Child, Miscounted, check_numbers
from benchmarks.running import Outcome, Table, Verdict, interleave, median, ratio
from benchmarks.stage import HERE, PGPUBSUB, Stage
from benchmarks.writing import write

INSERT = "INSERT INTO project_item (name, number, amount, data) VALUES ('abc', 1, 1.5, '{}')"
ROWS = (
    "INSERT INTO project_item (name, number, amount, data) "
    "SELECT 'name ' || number, number, 1.5, '{{}}' FROM generate_series(1, {count}) AS number"
)
ONE_BY_ONE = (
    "DO $do$ BEGIN FOR number IN 1..{count} LOOP "
    "INSERT INTO project_item (name, number, amount, data) VALUES ('abc', number, 1.5, '{{}}'); "
    "END LOOP; END $do$"
)
TRUNCATE = "TRUNCATE project_item, pgpubsub_sql_notification RESTART IDENTITY"
READY = "SELECT count(*) FROM pgpubsub_sql_notification"
CHANNEL = "project.Items"
NUDGE_SECONDS = 0.02
CATCH_UP_SECONDS = 120.0
DROP_TRIGGERS = """
    DO $do$ DECLARE name text; BEGIN
        FOR name IN SELECT tgname FROM pg_trigger
            WHERE tgrelid = 'project_item'::regclass AND NOT tgisinternal
        LOOP EXECUTE format('DROP TRIGGER %I ON project_item', name); END LOOP;
    END $do$"""
BARE_TRIGGER = """
    CREATE FUNCTION bare() RETURNS trigger LANGUAGE plpgsql AS $bare$
    BEGIN
        INSERT INTO pgpubsub_sql_notification (channel, payload)
        SELECT 'bare', jsonb_build_object(
            'op', TG_OP, 'when', TG_WHEN, 'old', NULL::jsonb, 'new', to_jsonb(n.*))
        FROM new_rows AS n;
        RETURN NULL;
    END $bare$;
    CREATE TRIGGER bare AFTER INSERT ON project_item REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION bare()"""
MUST_NOTIFY = """
    CREATE OR REPLACE FUNCTION pgpubsub_must_notify(channel text) RETURNS boolean
    LANGUAGE sql AS 'SELECT {answer}'"""
"""Replaces the one function that every writer asks whether to NOTIFY."""


def _no_trigger(stage: Stage) -> str:
    return copy(stage, DROP_TRIGGERS)


def _silent(stage: Stage) -> str:
    return copy(stage, MUST_NOTIFY.format(answer="false"))


def notify_always(stage: Stage) -> str:
    """Return a database like ours in which each write of a durable message sends a NOTIFY."""
    return copy(stage, MUST_NOTIFY.format(answer="true"))


def _bare(stage: Stage) -> str:
    return copy(stage, DROP_TRIGGERS, BARE_TRIGGER)


def copy(stage: Stage, *statements: str) -> str:
    """Return a new database like ours, changed by *statements*."""
    database = stage.create_database(stage.template(HERE))
    for statement in statements:
        stage.execute(database, statement)
    return database


def writers(stage: Stage) -> Outcome:
    """Count the commits a second of one-row writers, with and without workers."""
    counts, workers = stage.sizes.writers, [n for n in stage.sizes.workers if n]
    silent, always, ours = _silent(stage), notify_always(stage), copy(stage)
    lines = {
        "no trigger": (_no_trigger(stage), 0),
        "stored, no NOTIFY": (silent, 0),
        "ours": (ours, 0),
        "NOTIFY always": (always, 0),
    }
    for number in workers:
        lines[f"stored, no NOTIFY, workers: {number}"] = (silent, number)
        lines[f"ours, workers: {number}"] = (ours, number)
        lines[f"NOTIFY always, workers: {number}"] = (always, number)
    series = {line: {count: f"{line}, writers: {count}" for count in counts} for line in lines}
    found = interleave(
        {
            series[line][count]: _writing(stage, database, count, number, nudged=database == silent)
            for line, (database, number) in lines.items()
            for count in counts
        },
        stage.sizes.runs,
    )
    figures = {name: [rate for rate, _ in runs] for name, runs in found.items()}
    last = max((behind for runs in found.values() for _, behind in runs), default=0.0)
    table = Table(
        title="One-row commits",
        unit="commits/s",
        figures=figures,
        ours=tuple(name for name in figures if name.startswith("ours")),
        limit=series["no trigger"][counts[-1]],
        series=series,
        x_label="writers",
    )
    judged = 32 if 32 in counts else counts[-1]
    verdicts = []
    for number in workers:
        own = series[f"ours, workers: {number}"][judged]
        for line, bound in (("stored, no NOTIFY", 0.85), ("NOTIFY always", 4.0)):
            other = series[f"{line}, workers: {number}"][judged]
            verdicts.append(
                Verdict(what=f"{own} / {line}", value=ratio(figures, own, other), bound=bound)
            )
    note = f"The last worker had caught up {last:.1f} s after the writers' end at most."
    return Outcome(tables=[table], verdicts=verdicts, notes=[note])


def _writing(
    stage: Stage, database: str, count: int, workers: int, *, nudged: bool
) -> Callable[[], tuple[float, float]]:
    """Return a run: commits a second, and the seconds after which the workers had caught up."""

    def run() -> tuple[float, float]:
        stage.execute(database, TRUNCATE)
        with listening(stage, database, "typed", workers) as children:
            with _nudging(stage, database, nudged and workers > 0):
                written = write(
                    stage,
                    database,
                    INSERT,
                    writers=count,
                    seconds=stage.sizes.writing_seconds,
                )
                behind = catch_up(stage, database) if workers else 0.0
            numbers = [n for child in children for n in child.stop_listening()["numbers"]]
        rows = stage.execute(database, "SELECT count(*) FROM project_item")
        if rows != written.transactions:
            raise Miscounted(f"{written.transactions} transactions have written {rows} rows.")
        if workers:
            check_numbers(numbers, range(1, rows + 1))
        return written.per_second, behind

    return run


@contextmanager
def listening(
    stage: Stage, database: str, kind: str, workers: int = 1, **environment: str
) -> Iterator[list[Child]]:
    """Run workers of ours, each in a process of its own."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(stage.start(HERE, database, **environment)) for _ in range(workers)
        ]
        for child in children:
            child.begin("listen", kind=kind)
        for child in children:
            child.wait_for("warm", within=60)
        yield children


@contextmanager
def _nudging(stage: Stage, database: str, needed: bool) -> Iterator[None]:
    """Wake workers now and then, as nothing else does where triggers never NOTIFY."""
    ended = Event()

    def nudge() -> None:
        connection = stage.connect(database)
        with connection.cursor() as cursor:
            while not ended.wait(NUDGE_SECONDS):
                cursor.execute(f'NOTIFY "{CHANNEL}"')
        connection.close()

    thread = Thread(target=nudge)
    if needed:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if needed:
            thread.join()


def catch_up(stage: Stage, database: str) -> float:
    """Wait until nothing is stored; return how many seconds that took."""
    started = time.monotonic()
    while stage.execute(database, READY):
        if time.monotonic() - started > CATCH_UP_SECONDS:
            raise Miscounted(f"Messages are left after {CATCH_UP_SECONDS:g} s.")
        time.sleep(0.05)
    return time.monotonic() - started


def statements(stage: Stage) -> Outcome:
    """Time a statement of many rows, and many statements of one."""
    databases = {
        "no trigger": (_no_trigger(stage), None),
        "bare trigger": (_bare(stage), "pgpubsub_sql_notification"),
        "ours": (copy(stage), "pgpubsub_sql_notification"),
    }
    if "django-pgpubsub" in stage.peers_that_run({"django-pgpubsub": PGPUBSUB}):
        own = stage.create_database(stage.template(PGPUBSUB))
        databases["django-pgpubsub"] = (own, "pgpubsub_notification")
    tables, verdicts = [], []
    for title, statement, count in (
        ("Rows of one INSERT", ROWS, stage.sizes.rows),
        ("INSERTs of one row", ONE_BY_ONE, stage.sizes.statements),
    ):
        figures = interleave(
            {
                name: _timing(stage, database, stored, statement.format(count=count), count)
                for name, (database, stored) in databases.items()
            },
            stage.sizes.runs,
        )
        tables.append(
            Table(
                title=title,
                unit="µs/row",
                figures=figures,
                best_is_high=False,
                ours=("ours",),
                peers=tuple(name for name in figures if name == "django-pgpubsub"),
                limit="bare trigger",
            )
        )
        verdicts += _statement_verdicts(title, figures)
    return Outcome(tables=tables, verdicts=verdicts)


def _statement_verdicts(title: str, figures: dict[str, list[float]]) -> list[Verdict]:
    value = ratio(figures, "ours", "bare trigger")
    verdicts = [
        Verdict(what=f"{title}: ours / bare trigger", value=value, bound=1.3, at_least=False)
    ]
    if "django-pgpubsub" in figures:
        names = ("no trigger", "ours", "django-pgpubsub")
        rounds = zip(*(figures[name] for name in names), strict=True)
        added = median((ours - none) / (peer - none) for none, ours, peer in rounds)
        what = f"{title}: added by ours / added by django-pgpubsub"
        verdicts.append(Verdict(what=what, value=added, bound=0.45, at_least=False))
    return verdicts


def _timing(
    stage: Stage, database: str, stored: str | None, statement: str, count: int
) -> Callable[[], float]:
    """Return a run: microseconds a row."""
    cursor = stage.connect(database).cursor()

    def run() -> float:
        cursor.execute(f"TRUNCATE project_item, {stored or 'project_item'}")
        cursor.execute("CHECKPOINT")
        started = time.perf_counter()
        cursor.execute(statement)
        seconds = time.perf_counter() - started
        cursor.execute(f"SELECT count(*) FROM {stored or 'project_item'}")
        ((found,),) = cursor.fetchall()
        if found != count:
            raise Miscounted(f"{count} rows were inserted and {found} messages stored.")
        return seconds / count * 1e6

    return run
