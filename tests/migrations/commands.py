"""Django's command line, run again and again in one process: ``manage.py`` for the harness.

Reads one JSON object a line, ``{"argv": […], "answers": "y\\n"}``, and answers each with
``{"code": 0, "output": "…"}``. It costs one start of Django for all commands of a version.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import traceback

from django.core.management import ManagementUtility


def execute(argv: list[str], answers: str) -> tuple[int, str]:
    """Run one command as ``manage.py`` would, and return its exit status and what it wrote."""
    output = io.StringIO()
    sys.stdin = io.StringIO(answers)
    importlib.invalidate_caches()  # makemigrations has written modules meanwhile
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            ManagementUtility(["manage.py", *argv]).execute()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else bool(exit_.code)
        except Exception:  # noqa: BLE001 - as manage.py would
            traceback.print_exc()
            code = 1
    return code, output.getvalue()


def main() -> None:
    """Serve until the input ends."""
    requests, responses = sys.stdin, sys.stdout
    for line in requests:
        code, output = execute(**json.loads(line))
        print(json.dumps({"code": code, "output": output}), file=responses, flush=True)


if __name__ == "__main__":
    main()
