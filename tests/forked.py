"""The server and the client of ``preloaded``, each a program. The client imports little.

The server runs each command in a process that it forks. The process has the directory, the
environment and the standard files of its client. The client passes on the signals that it gets,
and ends as the process has ended.
"""

import json
import os
import signal
import socket
import sys

PRELOADED = (
    "django.contrib.admin.options",
    "django.contrib.auth.decorators",
    "django.contrib.messages.views",
    "django.contrib.sessions.middleware",
    "django.contrib.staticfiles.finders",
    "django.core.mail",
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
    "django.core.management.commands.shell",
    "django.db.backends.postgresql.base",
    "django.middleware.csrf",
    "django.urls",
    "django.utils.log",
    "django.views.debug",
    "django.views.defaults",
    "django.views.generic",
    "pgpubsub_sql.apps",
    "pgpubsub_sql.inspection",
    "pgpubsub_sql.management.commands.listen",
)
"""What nearly every command imports, as far as that needs no settings."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


def run_elsewhere(address: str, argv: list[str]) -> int:
    """Have the server at *address* run *argv*, and return its exit status: the client."""
    request = {"argv": argv, "directory": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answers:
            pid = int(answers.readline())
            for number in PASSED_ON:
                signal.signal(number, lambda number, frame: os.kill(pid, number))
            status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    return status


def next_command(listening: socket.socket) -> list[str]:
    """Serve until the parent closes standard input; return in the process of each command."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return forked(connection)
    os._exit(0)


def forked(connection: socket.socket) -> list[str]:
    """Return what to run in a child process; tell the client how that has ended."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    in_session, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(in_session)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        connection.close()
        if request.get("new_session"):
            os.setsid()
        os.close(told)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        return request["argv"]
    for file in files:
        os.close(file)
    os.close(told)
    os.read(in_session, 1)  # until it has its session: before, nobody could kill its process group
    os.close(in_session)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def serve(number: int) -> None:
    """Import what commands need, then run each in a process of its own."""
    import gc
    import importlib
    import runpy

    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()
    sys.argv = next_command(socket.socket(fileno=number))
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _, what, *rest = sys.argv
    sys.exit(run_elsewhere(rest[0], rest[1:]) if what == "run" else serve(int(rest[0])))
