"""The PostgreSQL of the demo, and of the site for trying out the admin."""

import contextlib
import os
from collections.abc import Iterator

from pgpubsub_sql.embedded import Server


@contextlib.contextmanager
def server() -> Iterator[dict[str, str | int]]:
    """Run PostgreSQL, and let everything that libpq connects find it."""
    # Whatever else the environment says of some other server must not lead there.
    for name in [name for name in os.environ if name.startswith("PG") and "PUBSUB" not in name]:
        del os.environ[name]
    # What a crash of the machine would lose is of no interest: the server is gone at the end.
    with Server(settings={"fsync": "off"}) as started:
        os.environ.update(started.environment())
        yield {"host": started.host, "port": started.port, "user": started.user}
