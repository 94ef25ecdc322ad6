"""``manage.py steps "migrate" "pgpubsub verify"``: several commands in one process."""

import shlex

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Run commands, as far as they succeed."""

    def add_arguments(self, parser):
        parser.add_argument("commands", nargs="+")

    def handle(self, commands, **options):
        for command in commands:
            call_command(*shlex.split(command))
