"""Settings with Django's own pool of connections, which needs psycopg 3."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"] = DATABASES["default"] | {
    "OPTIONS": {"pool": True, "application_name": "pooled"}
}
