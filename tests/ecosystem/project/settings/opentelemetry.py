"""OpenTelemetry's instrumentations of Django and of both drivers; spans are made and dropped."""

from django.db.backends.postgresql.psycopg_any import is_psycopg3
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider

if is_psycopg3:
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as DriverInstrumentor
else:
    from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor as DriverInstrumentor

from .base import *

trace.set_tracer_provider(TracerProvider())
DjangoInstrumentor().instrument(is_sql_commentor_enabled=True)
DriverInstrumentor().instrument(enable_commenter=True, skip_dep_check=True)


def is_in_use(connection):
    """Whether the class of cursors is theirs."""
    with connection.connection.cursor() as cursor:
        return "Traced" in type(cursor).__name__
