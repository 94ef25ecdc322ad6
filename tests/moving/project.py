"""The project of the trial: two apps, of which one watches a model of the other."""

from __future__ import annotations

SETTINGS = """
import os
SECRET_KEY = "of a trial"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "pgtrigger", "pgpubsub", "shop", "audit"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["PGDATABASE"],
}}
LOGGING = {"version": 1, "loggers": {"pgpubsub": {"level": "INFO"}}}
PGPUBSUB_PASS_CONTEXT_TO_LISTENERS = True
PGPUBSUB_LISTENER_FILTER = "shop.filters.Provider"
"""

MODELS = """
from django.db import models

class Author(models.Model):
    name = models.TextField()

class Post(models.Model):
    name = models.TextField()

class Handled(models.Model):
    what = models.TextField()
    by = models.TextField()
"""

FILTERS = """
from django.db.models import Q
from pgpubsub.listeners import ListenerFilterProvider

class Provider(ListenerFilterProvider):
    def get_filter(self) -> Q:
        return ~Q(payload__contains={"new": {"name": "filtered out"}})
"""

CHANNELS = """
import datetime
from dataclasses import dataclass

import pgpubsub
from pgpubsub.channel import TriggerChannel
from shop.models import Author

@dataclass
class AuthorChannel(TriggerChannel):
    model = Author
    lock_notifications = True

@dataclass
class Reads(pgpubsub.Channel):
    number: int
    date: datetime.date
    lock_notifications = True

@dataclass
class Pings(pgpubsub.Channel):
    number: int
"""

LISTENERS = """
import os

import pgpubsub
from pgpubsub.listeners import post_insert_listener
from shop.channels import AuthorChannel, Pings, Reads
from shop.models import Author, Handled

def note(what):
    Handled.objects.create(what=what, by=os.environ["WORKER"])

@post_insert_listener(AuthorChannel)
def author(old: Author, new: Author, **kwargs):
    note(new.name)

@pgpubsub.listener(Reads)
def read(number, date):
    note(f"read {number}")

@pgpubsub.listener("shop.channels.Pings")
def ping(number):
    note(f"ping {number}")
"""

AUDIT_CHANNELS = """
from dataclasses import dataclass

from pgpubsub import TriggerChannel
from shop.models import Post

@dataclass
class PostChannel(TriggerChannel):
    model = Post
    lock_notifications = True
"""

AUDIT_LISTENERS = """
import pgpubsub
from audit.channels import PostChannel
from shop.listeners import note

@pgpubsub.post_insert_listener(PostChannel)
def post(old, new, **kwargs):
    note(new.name)
"""

APP = """
from django.apps import AppConfig

class Config(AppConfig):
    name = "{label}"

    def ready(self):
        import {label}.listeners
"""

MANAGE = """
import os
import sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

WRITER = """
import os, signal, sys
import psycopg2

run = True
def stop(*_):
    global run
    run = False
signal.signal(signal.SIGTERM, stop)
connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
number = failed = 0
while run:
    number += 1
    for table in ("author", "post"):
        try:
            cursor.execute(f"INSERT INTO shop_{table} (name) VALUES (%s)", [f"{table} {number}"])
        except psycopg2.Error as error:
            failed += 1
            print(error, file=sys.stderr)
    cursor.execute("SELECT pg_sleep(0.02)")
print(number, failed)
"""

FILES = {
    "settings.py": SETTINGS,
    "manage.py": MANAGE,
    "writer.py": WRITER,
    "shop/__init__.py": "",
    "shop/apps.py": APP.format(label="shop"),
    "shop/models.py": MODELS,
    "shop/filters.py": FILTERS,
    "shop/channels.py": CHANNELS,
    "shop/listeners.py": LISTENERS,
    "audit/__init__.py": "",
    "audit/apps.py": APP.format(label="audit"),
    "audit/channels.py": AUDIT_CHANNELS,
    "audit/listeners.py": AUDIT_LISTENERS,
    "audit/migrations/__init__.py": "",
}
