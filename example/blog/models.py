"""A blog: people, and what they wrote."""

from django.db import models


class Author(models.Model):
    name = models.TextField()
    bio = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name


class Post(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="posts")
    title = models.TextField()
    content = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.title
