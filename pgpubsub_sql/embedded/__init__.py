"""A PostgreSQL server of one's own: for the demo, for the tests, and for users' tests.

::

    with Server(settings={"fsync": "off"}) as server:
        subprocess.run(["pytest"], env=os.environ | server.environment(), check=True)

Without ``data_dir`` the server is throw-away: a new cluster in a temporary directory, gone without
a trace at the end. With one it is persistent: initialised once, kept, started again later.
``python -m pgpubsub_sql.embedded --help`` is the same for the shell. POSIX systems only.

**Who does what.** ``Server`` starts a *keeper*, a small Python process in a session of its own,
and the keeper creates the files, starts PostgreSQL, stops it and removes the files. Its orders come
through a pipe, and the end of that pipe is an order too: whether the parent calls ``stop()``,
crashes or is killed, the same code cleans up, on every platform. Ctrl-C does not reach the keeper.
Should the keeper itself be killed, Linux stops the server (``PR_SET_PDEATHSIG``).

**Who may connect.** Only the user the server runs as, and root: there is no TCP, the socket's
directory has mode 0700, and so authentication is ``trust``. PostgreSQL refuses to run as root, so
root's server runs as ``nobody`` (or as the owner of an existing ``data_dir``): root connects, and
so does a process that root runs as that same user. Other users cannot, on purpose: ``trust``
would make every local user a superuser who may run programs.

**What is never touched.** Modes and owners of anything this package did not create. Binaries in a
place the server's user cannot reach (a virtualenv below ``/root``) are copied for the server's
lifetime instead.
"""

from pgpubsub_sql.embedded.binaries import find_binaries
from pgpubsub_sql.embedded.server import Server

__all__ = ["Server", "find_binaries"]
