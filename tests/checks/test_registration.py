"""All checks together: registered once, listed, and run by ``manage.py check``."""

from __future__ import annotations

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

import pgpubsub_sql
from pgpubsub_sql import checks

pytestmark = pytest.mark.usefixtures("blank")


def test_manage_py_check_runs_the_checks(db: None) -> None:
    """Every command that needs the checks fails before the first message does."""
    pgpubsub_sql.listener("blog.Nothing")(lambda: None)
    with pytest.raises(SystemCheckError, match=r"\(pgpubsub_sql\.E004\)"):
        call_command("check")


def test_checks_are_registered_once() -> None:
    before = django_checks.registry.registry.get_checks()
    checks.register()
    assert len(django_checks.registry.registry.get_checks()) == len(before)
    assert checks.check_channels in before


@pytest.mark.parametrize(
    "identifier",
    [f"E00{n}" for n in range(1, 10)]
    + [
        "E010",
        "E011",
        "E012",
        "E015",
        "E101",
        "W002",
        "W003",
        "W004",
        "W007",
        "W008",
        "W009",
        "W010",
        "W101",
    ]
    + ["W203", "W204", "W205"],
)
def test_the_table_of_checks_is_complete(identifier: str) -> None:
    assert f"| {identifier} |" in (checks.__doc__ or "")
