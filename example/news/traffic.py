"""Live traffic: authors come, posts are read, digests are asked for."""

import datetime
import itertools
from collections.abc import Iterator

from example.blog.channels import PostReads
from example.blog.models import Author, Post
from example.news.channels import Digest
from pgpubsub_sql import notify

NAMES = ("Zoë", "Bo", "Nadja", "Chidi", "Ana", "Yuki", "Omar", "Ida")
DOMAINS = ("example.com", "example.org", "example.com", "example.net")
"""Mail to the last one fails."""
DIGEST_EVERY = 20
"""So many authors come between two digests."""


def steps() -> Iterator[None]:
    """Write a little, and yield, for ever."""
    for number in itertools.count():
        name = NAMES[number % len(NAMES)]
        address = f"{name.lower()}{number}@{DOMAINS[number % len(DOMAINS)]}"
        author = Author.objects.create(name=f"{name} {number}", bio=address)
        for post in Post.objects.exclude(author=author).order_by("-id")[:3]:
            notify(PostReads, model_id=post.pk, date=datetime.date.today(), source="the site")
        if number % DIGEST_EVERY == 0:
            notify(Digest, number=number)
        yield
