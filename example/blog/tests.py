"""How a project tests what it sends and what becomes of it, without a commit."""

import datetime

from django.core.cache import cache
from django.test import TestCase

import pgpubsub_sql
from example.blog.channels import AuthorChannel, PostReads
from example.blog.listeners import count_read, write_first_post
from example.blog.models import Author, Post
from pgpubsub_sql.testing import PubSubTestMixin

TODAY = datetime.date(2026, 1, 31)


class BlogTest(PubSubTestMixin, TestCase):
    def test_a_new_author_is_announced(self) -> None:
        with self.pubsub.capture():
            Author.objects.create(name="Zoë")
        self.assertSent(AuthorChannel, op="INSERT", new__name="Zoë", count=1)
        self.assertNotSent(PostReads)

    def test_a_new_author_gets_a_first_post(self) -> None:
        author = Author.objects.create(name="Zoë")
        self.pubsub.drain()
        self.assertHandled(write_first_post, new=author, count=1)
        self.assertEqual(Post.objects.get().title, "Welcome, Zoë!")

    def test_the_first_post_survives_an_outage(self) -> None:
        Author.objects.create(name="Zoë")
        with self.pubsub.failing(write_first_post, times=3):
            self.pubsub.drain(waiting=True, raise_errors=False)
        self.assertEqual(Post.objects.count(), 1)

    def test_reads_are_counted(self) -> None:
        cache.clear()
        with self.pubsub.capture():
            pgpubsub_sql.notify(PostReads, model_id=1, date=TODAY)
        self.pubsub.drain()
        self.pubsub.perform(count_read, model_id=1, date=TODAY)
        self.assertEqual(cache.get(f"reads:1:{TODAY}"), 2)
