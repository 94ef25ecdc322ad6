"""``manage.py`` of the project, for goals that run commands."""

from __future__ import annotations

import sys

from django.core.management import execute_from_command_line

from benchmarks import project

if __name__ == "__main__":
    project.configure("pgpubsub_sql")
    execute_from_command_line(sys.argv)
