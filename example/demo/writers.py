"""The ways to write: through Django, around Django, and by transactions that come to nothing.

What was written is noted once it is committed, so that ``Sent`` holds what must be handled.
"""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extras
from django.db import models, transaction

import pgpubsub_sql
from example.blog.channels import PostReads
from example.blog.models import Author, Post
from example.demo import messages
from example.demo.account import Sent
from example.demo.channels import Authors, Posts, PostsLive, Tagged


class Table(NamedTuple):
    """A table of the blog, and who hears of its changes."""

    model: type[models.Model]
    columns: tuple[str, ...]
    """The first two are what a row says."""
    channels: tuple[type[pgpubsub_sql.TriggerChannel], ...]


AUTHORS = Table(Author, ("name", "bio"), (Authors,))
POSTS = Table(Post, ("title", "content", "author_id"), (Posts, PostsLive))

Values = tuple[Any, ...]
"""Of a row, in the order of its table's columns."""


def new_record() -> Sent:
    """Return the record of what is sent, with nothing in it."""
    return Sent(
        durable=[channel.postgres_name() for channel in (Authors, Posts, Tagged)],
        ephemeral=[channel.postgres_name() for channel in (PostsLive, PostReads)],
    )


class Writers:
    """Write through Django and through *raw*, a connection that knows nothing of Django."""

    def __init__(self, raw: "psycopg2.extensions.connection", sent: Sent) -> None:
        self.raw = raw
        self.sent = sent

    # --- Rows: the database itself sends ---------------------------------------------------

    def create(self, table: Table, rows: Sequence[Values]) -> None:
        """``Model.objects.create()``, each in a transaction of its own."""
        for row in rows:
            table.model.objects.create(**_named(table, row))
            self._inserted(table, [row])

    def bulk_create(self, table: Table, rows: Sequence[Values]) -> None:
        """``Model.objects.bulk_create()``."""
        table.model.objects.bulk_create(table.model(**_named(table, row)) for row in rows)
        self._inserted(table, rows)

    def copy(self, table: Table, rows: Sequence[Values]) -> None:
        """``COPY … FROM STDIN``, one statement for all."""
        file = io.StringIO()
        csv.writer(file).writerows(rows)
        file.seek(0)
        columns = ", ".join(table.columns)
        with self.raw, self.raw.cursor() as cursor:
            cursor.copy_expert(f"COPY {_name(table)} ({columns}) FROM STDIN (FORMAT csv)", file)
        self._inserted(table, rows)

    def insert(self, table: Table, rows: Sequence[Values]) -> None:
        """``INSERT``, many statements in one transaction."""
        with self.raw, self.raw.cursor() as cursor:
            self._execute_inserts(cursor, table, rows)
        self._inserted(table, rows)

    def update(self, table: Table, column: str, addition: str, where: str) -> int:
        """Append to a text *column* by one raw ``UPDATE``; return how many rows it changed."""
        says = ", ".join(table.columns[:2])
        with self.raw, self.raw.cursor() as cursor:
            cursor.execute(f"SELECT id, {says} FROM {_name(table)} WHERE {where} FOR UPDATE")
            before = {key: row for key, *row in cursor.fetchall()}
            cursor.execute(
                f"UPDATE {_name(table)} SET {column} = {column} || %s "
                f"WHERE id = ANY(%s) RETURNING id, {says}",
                [addition, list(before)],
            )
            after = {key: row for key, *row in cursor.fetchall()}
        for key, row in after.items():
            self._changed(table, before[key], row)
        return len(after)

    def save(self, authors: Iterable[Author]) -> None:
        """``Model.save()``, each in a transaction of its own."""
        for author in authors:
            before = author.name, author.bio
            author.bio += " Wrote in."
            author.save()
            self._changed(AUTHORS, before, (author.name, author.bio))

    def delete(self, authors: Iterable[Author]) -> None:
        """``Model.delete()``, and Django deletes the posts of an author with them."""
        for author in authors:
            posts = list(author.posts.values_list("title", "content"))
            author.delete()
            for post in posts:
                self._changed(POSTS, post, None)
            self._changed(AUTHORS, (author.name, author.bio), None)

    def raw_delete(self, names: Sequence[str]) -> None:
        """``DELETE``, one statement for all posts and one for all authors."""
        with self.raw, self.raw.cursor() as cursor:
            cursor.execute(
                "DELETE FROM blog_post USING blog_author WHERE author_id = blog_author.id "
                "AND name = ANY(%s) RETURNING title, content",
                [list(names)],
            )
            posts = cursor.fetchall()
            cursor.execute(
                "DELETE FROM blog_author WHERE name = ANY(%s) RETURNING name, bio", [list(names)]
            )
            authors = cursor.fetchall()
        for post in posts:
            self._changed(POSTS, post, None)
        for author in authors:
            self._changed(AUTHORS, author, None)

    # --- Messages: somebody sends ----------------------------------------------------------

    def notify_tags(self, package: str, tags: Sequence[str]) -> None:
        """``notify()``, many in one transaction."""
        with transaction.atomic():
            for tag in tags:
                pgpubsub_sql.notify(Tagged, package=package, tag=tag)
        self._tagged(package, tags)

    def pgpubsub_notify_tags(self, package: str, tags: Sequence[str]) -> None:
        """``SELECT pgpubsub_notify(…)``, many in one transaction."""
        with self.raw, self.raw.cursor() as cursor:
            for tag in tags:
                payload = json.dumps({"package": package, "tag": tag})
                cursor.execute("SELECT pgpubsub_notify(%s, %s)", [Tagged.postgres_name(), payload])
        self._tagged(package, tags)

    def notify_reads(self, posts: Sequence[Post], source: str) -> None:
        """``notify()``, each in a transaction of its own."""
        for post in posts:
            name = f"{source} {post.pk}"
            pgpubsub_sql.notify(PostReads, model_id=post.pk, date=date.today(), source=name)
            self.sent.add(PostReads.postgres_name(), name)

    def pg_notify_reads(self, posts: Sequence[Post], source: str) -> None:
        """``SELECT pg_notify(…)``, many in one transaction."""
        names = [f"{source} {post.pk}" for post in posts]
        with self.raw, self.raw.cursor() as cursor:
            for post, name in zip(posts, names, strict=True):
                payload = {"model_id": post.pk, "date": str(date.today()), "source": name}
                cursor.execute(
                    "SELECT pg_notify(%s, %s)", [PostReads.postgres_name(), json.dumps(payload)]
                )
        for name in names:
            self.sent.add(PostReads.postgres_name(), name)

    # --- What comes to nothing -------------------------------------------------------------

    def roll_back(self, rows: Sequence[Values]) -> None:
        """Write authors and send messages in transactions that roll back, wholly or in part."""
        with transaction.atomic():
            pgpubsub_sql.notify(Tagged, package="Commit", tag=rows[0][0])
            savepoint = transaction.savepoint()
            AUTHORS.model.objects.bulk_create(Author(**_named(AUTHORS, row)) for row in rows)
            pgpubsub_sql.notify(Tagged, package="Rollback", tag="ORM")
            pgpubsub_sql.notify(PostReads, model_id=0, date=date.today(), source="Rollback, ORM")
            transaction.savepoint_rollback(savepoint)
        self._tagged("Commit", [rows[0][0]])
        with self.raw.cursor() as cursor:
            self._execute_inserts(cursor, AUTHORS, rows)
            cursor.execute("UPDATE blog_post SET content = ''")
            cursor.execute(
                """SELECT pgpubsub_notify('demo.Tagged', '{"package": "", "tag": ""}')"""
            )
        self.raw.rollback()

    # --- What was sent ---------------------------------------------------------------------

    def _execute_inserts(self, cursor: Any, table: Table, rows: Iterable[Values]) -> None:
        columns, places = ", ".join(table.columns), ", ".join(["%s"] * len(table.columns))
        for row in rows:
            cursor.execute(f"INSERT INTO {_name(table)} ({columns}) VALUES ({places})", row)

    def _inserted(self, table: Table, rows: Iterable[Values]) -> None:
        for row in rows:
            self._changed(table, None, row)
            if table is AUTHORS:
                # The blog's own listener will write this post, in a worker.
                self._changed(POSTS, None, (f"Welcome, {row[0]}!", "Hello."))

    def _changed(self, table: Table, old: Sequence[Any] | None, new: Sequence[Any] | None) -> None:
        message = messages.change(old and tuple(old[:2]), new and tuple(new[:2]))
        for channel in table.channels:
            self.sent.add(channel.postgres_name(), message)

    def _tagged(self, package: str, tags: Iterable[str]) -> None:
        for tag in tags:
            self.sent.add(Tagged.postgres_name(), messages.tag(package, tag))


def shares(rows: Sequence[Values], number: int) -> list[list[Values]]:
    """Deal *rows* out, so that each way to write gets its share."""
    return [list(itertools.islice(rows, first, None, number)) for first in range(number)]


def _name(table: Table) -> str:
    return table.model._meta.db_table


def _named(table: Table, row: Values) -> dict[str, Any]:
    return dict(zip(table.columns, row, strict=True))
