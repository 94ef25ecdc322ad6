"""The demo, step by step."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg2
from django.core.management import call_command
from django.db import connection

from example.blog.models import Author, Post
from example.demo.account import Account, Entry, Sent, settle
from example.demo.interruption import Interruption
from example.demo.listening import Listening
from example.demo.models import Handled
from example.demo.packages import Package
from example.demo.report import Report
from example.demo.server import server
from example.demo.writers import AUTHORS, POSTS, Table, Values, Writers, new_record, shares
from pgpubsub_sql.models import Notification

WORKERS = 2
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
"""So long may nothing at all be handled, before what is missing counts as lost."""

MOST_SAVED = 100
MOST_DELETED = 50
MOST_READ = 500


def run(packages: Sequence[Package], report: Report, interruption: Interruption) -> Account:
    """Send, have it handled, kill a worker midway; return the account."""
    sent = new_record()
    with (
        server() as address,
        contextlib.closing(psycopg2.connect(**address)) as raw,
        contextlib.closing(connection),
    ):
        interruption.check()
        report.setting("PostgreSQL", f"runs in {address['host']}, gone at the end")
        report.setting("migrate", "creates tables, functions and triggers")
        call_command("migrate", verbosity=0)
        interruption.check()
        with Listening(WORKERS) as listening:
            story = Story(Writers(raw, sent), listening, report, interruption)
            try:
                story.start_workers()
                story.write(packages)
                story.wait_for_the_rest()
                listening.stop()
            except TimeoutError:
                story.tell_problems()
                raise
            story.tell_problems()
            # Now nobody is left who could handle anything a second time.
            return Account(lines=settle(sent, read_ledger()), left=Notification.objects.count())


def read_ledger() -> Mapping[str, Sequence[Entry]]:
    """Return the entries of each channel."""
    ledger = defaultdict(list)
    for channel, message, pid in Handled.objects.values_list("channel", "message", "pid"):
        ledger[channel].append((message, pid))
    return ledger


class Story:
    """Who writes what, when a worker is killed, and how long to wait."""

    def __init__(
        self,
        writers: Writers,
        listening: Listening,
        report: Report,
        interruption: Interruption,
    ) -> None:
        self.writers = writers
        self.sent: Sent = writers.sent
        self.listening = listening
        self.report = report
        self.interruption = interruption

    def start_workers(self) -> None:
        """Wait until all workers listen."""
        self._wait_until(lambda: len(self.listening.workers()) == WORKERS, "no workers")
        for pid in self.listening.workers():
            self.sent.join(pid)
        pids = " and ".join(map(str, self.listening.workers()))
        self.report.setting("manage.py listen", f"runs {WORKERS} workers: processes {pids}")

    def write(self, packages: Sequence[Package]) -> None:
        """Let everybody write, and kill a worker in the middle of it."""
        self.report.head()
        self._insert(AUTHORS, list(author_rows(packages)))
        self._insert(POSTS, list(post_rows(packages)), interlude=self._kill_a_worker)
        self._roll_back()
        self._send_tags(packages)
        self._wait_for_the_successor()
        self._update()
        self._read_posts()
        self._delete()

    def wait_for_the_rest(self) -> None:
        """Wait until everything has been handled, or nothing has been for a long time."""
        # What is missing then is in the account.
        with contextlib.suppress(TimeoutError):
            self._wait_until(self._is_complete, "something is missing")

    def tell_problems(self) -> None:
        """Print what the workers have complained about."""
        for line in self.listening.problems()[:20]:
            self.report.say(f"  listen: {line}")

    # --- The steps -------------------------------------------------------------------------

    def _insert(
        self,
        table: Table,
        rows: Sequence[Values],
        interlude: Callable[[], None] = lambda: None,
    ) -> None:
        by_hand, in_bulk, copied, raw = shares(rows, 4)
        self._insert_some("create()", self.writers.create, table, by_hand)
        self._insert_some("bulk_create()", self.writers.bulk_create, table, in_bulk)
        self._insert_some("COPY", self.writers.copy, table, copied)
        interlude()
        self._insert_some("INSERT", self.writers.insert, table, raw)

    def _insert_some(
        self,
        who: str,
        write: Callable[[Table, Sequence[Values]], None],
        table: Table,
        rows: Sequence[Values],
    ) -> None:
        write(table, rows)
        self._step(who, f"{len(rows)} new {table.model._meta.verbose_name_plural}")

    def _kill_a_worker(self) -> None:
        victim = self.listening.workers()[0]
        self._wait_until(Handled.objects.filter(pid=victim).exists, f"{victim} does nothing")
        self.listening.kill(victim)
        self.sent.leave(victim)
        self._step("kill -9", f"kills worker {victim} amid its work")

    def _wait_for_the_successor(self) -> None:
        self._wait_until(lambda: len(self.listening.workers()) > WORKERS, "no successor")
        successor = self.listening.workers()[-1]
        self.sent.join(successor)
        self._step("manage.py listen", f"replaced it: worker {successor} listens")

    def _roll_back(self) -> None:
        rows = [(f"Nobody {number}", "Never was.") for number in range(20)]
        self.writers.roll_back(rows)
        self._step("ROLLBACK", f"{len(rows)} authors and more that never were")

    def _send_tags(self, packages: Sequence[Package]) -> None:
        for package in packages[::2]:
            self.writers.notify_tags(package.name, package.tags)
        self._step("notify()", "tags of every other package, durable")
        for package in packages[1::2]:
            self.writers.pgpubsub_notify_tags(package.name, package.tags)
        self._step("pgpubsub_notify()", "in SQL: tags of the other packages")

    def _update(self) -> None:
        count = self.writers.update(AUTHORS, "bio", " Famous.", "id % 3 = 0")
        self._step("UPDATE", f"{count} authors, one statement")
        count = self.writers.update(POSTS, "content", "\nThe end.", "length(content) > 8000")
        self._step("UPDATE", f"{count} posts longer than a NOTIFY may be")
        authors = Author.objects.order_by("-id")[:MOST_SAVED]
        self.writers.save(authors)
        self._step("save()", f"{len(authors)} authors, one by one")

    def _read_posts(self) -> None:
        posts = Post.objects.order_by("id")[:MOST_READ]
        self.writers.notify_reads(posts, "notify()")
        self._step("notify()", f"{len(posts)} reads of posts, ephemeral")
        self.writers.pg_notify_reads(posts, "pg_notify()")
        self._step("pg_notify()", f"in SQL: {len(posts)} reads of posts")

    def _delete(self) -> None:
        # Whoever is deleted before the blog has welcomed them would leave a post without author.
        doomed = Author.objects.filter(posts__title__startswith="Welcome, ").order_by("id")
        wanted = min(2 * MOST_DELETED, Author.objects.count() // 2)
        self._wait_until(lambda: doomed.count() >= wanted, "authors are not welcomed")
        authors = list(doomed[:wanted])
        self.writers.delete(authors[::2])
        self._step("delete()", f"{len(authors[::2])} authors with their posts")
        self.writers.raw_delete([author.name for author in authors[1::2]])
        self._step("DELETE", f"{len(authors[1::2])} authors with their posts")

    # --- Waiting ---------------------------------------------------------------------------

    def _step(self, who: str, what: str) -> None:
        self.interruption.check()
        self.report.step(who, what, len(self.sent), self._handled())

    def _wait_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Look until *condition* holds.

        Raises :class:`TimeoutError` if it does not, and nothing was handled for long: a worker
        may be slow, but must not stand still.
        """
        handled, deadline = -1, 0.0
        while not condition():
            self.interruption.check()
            self.listening.workers()
            if handled != (handled := self._handled()):
                deadline = time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"For {PATIENCE_SECONDS:g} seconds nothing was handled, and {otherwise}."
                )
            if self.sent:
                self.report.progress(len(self.sent), handled)
            time.sleep(POLL_SECONDS)
        self.report.end_progress()

    def _is_complete(self) -> bool:
        lines = settle(self.sent, read_ledger())
        return not any(line.lost for line in lines) and not Notification.objects.exists()

    def _handled(self) -> int:
        return Handled.objects.values("channel", "message").distinct().count()


def author_rows(packages: Sequence[Package]) -> Iterator[Values]:
    """Return every person once, with what they contributed to."""
    works = defaultdict(list)
    for package in packages:
        for person in package.people:
            works[person].append(package.name)
    for person, names in works.items():
        yield person, f"Contributed to {', '.join(names)}."


def post_rows(packages: Sequence[Package]) -> Iterator[Values]:
    """Return the texts of the packages, each by one of its authors, who are there already."""
    ids = dict(Author.objects.values_list("name", "id"))
    for package in packages:
        for title, content in package.texts:
            yield title, content, ids[package.people[0]]
