"""Each writes in every way that Django and the driver have."""

import io
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from importlib import import_module

from django.conf import settings
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.postgresql.psycopg_any import is_psycopg3

import pgpubsub_sql
from shop.channels import ItemChannel, ItemNews, Order, Rumour
from shop.models import Done, Mended

package = import_module(settings.SETTINGS_MODULE)
in_hand = ContextVar("in_hand", default=0)


class Mishap(Exception):
    """What a listener is to fail with."""


class Failed(Exception):
    """What no listener is to fail with."""


@pgpubsub_sql.listener(Order)
def fulfil(number, mood, notification):
    is_mended = Mended.objects.exists()
    write_all("fulfil", number)
    if mood == "once" and notification.attempts == 0:
        raise Mishap(f"Order {number} fails at first.")
    if mood == "broken" and not is_mended:
        raise Mishap(f"Order {number} fails until it is mended.")


@pgpubsub_sql.listener(Rumour)
def spread(number):
    write_all("spread", number)


@pgpubsub_sql.post_insert_listener(ItemChannel)
def stock(new):
    write_all("stock", int(new.name))


@pgpubsub_sql.post_insert_listener(ItemNews)
def announce(new):
    write_all("announce", int(new.name))


def write_all(listener, number):
    """Write by every means; what fails later on must leave nothing of it."""
    begin(number)
    write = partial(write_orm, listener, number)
    write("orm")
    with transaction.atomic():
        write("atomic")
    with suppress(IntegrityError), transaction.atomic():
        write("undone")
        Done.objects.bulk_create([Done(id=Done.objects.latest("id").id, number=0)])
    row = (listener, number, "cursor")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop_done (listener, number, means) VALUES (%s, %s, %s)", row)
        cursor.execute("SELECT count(*) FROM shop_done WHERE number = %s", [number])
        if cursor.fetchone()[0] < 3:
            raise Failed("What was written is not there.")
    copy(listener, number)
    transaction.on_commit(package.of_this_tenant(partial(write, "on_commit")))
    package.leave_behind(connections["default"])


def begin(number):
    """Be sure of the package, and of a context that nobody has used before."""
    if not package.is_in_use(connections["default"]):
        raise Failed("The package is not in use, so that nothing is proved.")
    if in_hand.get():
        raise Failed(f"The context of message {in_hand.get()} is still there.")
    in_hand.set(number)


def write_orm(listener, number, means):
    Done.objects.create(listener=listener, number=number, means=means)


def copy(listener, number):
    statement = "COPY shop_done (listener, number, means) FROM STDIN"
    with connection.cursor() as cursor:
        if is_psycopg3:
            with cursor.copy(statement) as rows:
                rows.write_row((listener, number, "copy"))
        else:
            cursor.copy_expert(statement, io.StringIO(f"{listener}\t{number}\tcopy\n"))
