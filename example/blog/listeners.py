"""Who receives it."""

import datetime

from django.core.cache import cache

import pgpubsub_sql
from example.blog.channels import AuthorChannel, PostReads
from example.blog.models import Author, Post


@pgpubsub_sql.listener(PostReads)
def count_read(model_id: int, date: datetime.date) -> None:
    """Count reads per day. Every process hears every read, and keeps its own count."""
    key = f"reads:{model_id}:{date}"
    cache.add(key, 0, timeout=None)
    cache.incr(key)


@pgpubsub_sql.post_insert_listener(AuthorChannel)
def write_first_post(new: Author) -> None:
    """Welcome every new author with a first post."""
    Post.objects.create(author_id=new.pk, title=f"Welcome, {new.name}!", content="Hello.")
