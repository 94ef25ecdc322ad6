"""A private PostgreSQL server, for tests, demos and development.

::

    with Server(settings={"fsync": "off"}) as server:
        subprocess.run(["pytest"], env=os.environ | server.environment(), check=True)

Without ``data_dir`` the server is throw-away: a new cluster in a temporary directory, which is
removed at the end. With ``data_dir`` it is persistent: initialised once, and started again later.
``python -m pgpubsub_sql.embedded --help`` shows the same for the shell. POSIX systems only.

**Who does what.** ``Server`` (``server.py``) starts a *keeper* (``keeper.py``), a small Python
process in its own session. The keeper creates the files, starts PostgreSQL, stops it and removes
the files. It receives orders through a pipe (``protocol.py``), and the end of the pipe is an order
to stop: whether the parent calls ``stop()``, crashes or is killed, the same code cleans up, on
every platform. Ctrl-C does not reach the keeper. If the keeper itself is killed, Linux stops the
server (``PR_SET_PDEATHSIG``).

**Who can connect.** Only root and the user that the server runs as: there is no TCP and the
socket's directory has mode 0700, so authentication is ``trust``. PostgreSQL refuses to run as root,
so root's server runs as ``nobody``, or as the owner of an existing ``data_dir``; root can connect
to it. No other user can, because ``trust`` would make every local user a superuser who may run
programs.

**What is never changed.** Modes and owners of anything this package did not create. Programs that
the server's user cannot reach, as in a virtualenv below ``/root``, are copied for the lifetime of
the server (``binaries.py``).
"""

from pgpubsub_sql.embedded.binaries import find_binaries
from pgpubsub_sql.embedded.server import Server

__all__ = ["Server", "find_binaries"]
