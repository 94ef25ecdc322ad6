"""Run ``manage.py pgpubsub``, and read what it prints."""

from __future__ import annotations

import io
import json
from typing import Any

from django.core.management import call_command


def run(*argv: str) -> str:
    output = io.StringIO()
    call_command("pgpubsub", *argv, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def run_json(*argv: str) -> Any:
    return json.loads(run(*argv, "--json"))
