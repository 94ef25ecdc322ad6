"""The reference says what the code says."""

from __future__ import annotations

import re

from django.core.management.base import BaseCommand

import pgpubsub_sql
from pgpubsub_sql import checks
from pgpubsub_sql.management.commands.listen import Command
from tests.conftest import ROOT
from tests.ledger import sql


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def rows(text: str, *, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column's heading is *first*."""
    (table,) = re.findall(rf"^\| {first} .*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_every_public_name_has_its_place() -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", page("api.md"), re.MULTILINE)
    assert sorted(documented) == pgpubsub_sql.__all__


def test_every_check_is_listed_as_its_module_says() -> None:
    listed = [
        [code.strip("`"), reports] for code, reports, _ in rows(page("checks.md"), first="id")
    ]
    assert listed == rows(checks.__doc__, first="id")


def test_every_function_is_listed_with_its_arguments(db: None) -> None:
    installed = sql(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE proname LIKE 'pgpubsub\\_%%' AND prorettype <> 'trigger'::regtype"
    )
    listed = [signature.strip("`") for signature, *_ in rows(page("sql.md"), first="function")]
    assert sorted(listed) == sorted(signature for (signature,) in installed)


def options(command: BaseCommand) -> set[str]:
    parser = command.create_parser("manage.py", "listen")
    return {option for action in parser._actions for option in action.option_strings}


def test_every_option_of_listen_is_listed() -> None:
    listed = [
        option.strip("`").split()[0] for option, *_ in rows(page("listen.md"), first="option")
    ]
    assert sorted(listed) == sorted(options(Command()) - options(BaseCommand()))
