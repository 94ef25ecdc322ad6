"""The listeners keep a ledger. Each entry is written in the transaction that its message is
handled in: both happen, or neither does."""

import os

import pgpubsub_sql
from example.blog.channels import PostReads
from example.blog.models import Author, Post
from example.demo import messages
from example.demo.channels import Authors, Posts, PostsLive, Tagged
from example.demo.models import Handled

EVENTS = ("insert", "update", "delete")


@pgpubsub_sql.trigger_listener(Authors, events=EVENTS)
def author_changed(
    old: Author | None, new: Author | None, notification: pgpubsub_sql.Notification
) -> None:
    enter(notification, messages.change(author_row(old), author_row(new)))


@pgpubsub_sql.trigger_listener(PostsLive, events=EVENTS)
@pgpubsub_sql.trigger_listener(Posts, events=EVENTS)
def post_changed(
    old: Post | None, new: Post | None, notification: pgpubsub_sql.Notification
) -> None:
    enter(notification, messages.change(post_row(old), post_row(new)))


@pgpubsub_sql.listener(Tagged)
def tagged(package: str, tag: str, notification: pgpubsub_sql.Notification) -> None:
    enter(notification, messages.tag(package, tag))


@pgpubsub_sql.listener(PostReads)
def read(source: str, notification: pgpubsub_sql.Notification) -> None:
    enter(notification, source)


def enter(notification: pgpubsub_sql.Notification, message: str) -> None:
    """Write into the ledger."""
    Handled.objects.create(channel=notification.channel, message=message, pid=os.getpid())


def author_row(author: Author | None) -> messages.Row | None:
    """Return what an author's row says."""
    return None if author is None else (author.name, author.bio)


def post_row(post: Post | None) -> messages.Row | None:
    """Return what a post's row says."""
    return None if post is None else (post.title, post.content)
