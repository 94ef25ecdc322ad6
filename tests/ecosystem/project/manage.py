"""The commands of the project."""

import os
import sys

if "PATCHED_BY_GEVENT" in os.environ:
    from gevent.monkey import patch_all

    patch_all()

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
