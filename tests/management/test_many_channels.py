"""``ls`` works out once what it needs, not once for each channel."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command

from pgpubsub_sql.channels import declared_channels
from pgpubsub_sql.migrations_ops import known_channels
from pgpubsub_sql.migrations_ops.audit import Audit

pytestmark = pytest.mark.django_db


def test_ls_works_out_once_what_is_expected_and_what_is_owned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a thousand channels it took a thousand times as long as it should."""
    worked_out: list[str] = []

    def counting(name: str) -> None:
        compute: Any = vars(Audit)[name].func

        def count(audit: Audit) -> Any:
            worked_out.append(name)
            return compute(audit)

        monkeypatch.setattr(vars(Audit)[name], "func", count)

    for name in ("expected", "leftovers", "owned"):
        counting(name)
    keys = known_channels.expected_keys
    monkeypatch.setattr(
        known_channels, "expected_keys", lambda found: worked_out.append("keys") or keys(found)
    )
    call_command("pgpubsub", "ls", stdout=io.StringIO())
    assert len(declared_channels()) > 5
    assert sorted(worked_out) == ["expected", "keys", "leftovers", "owned"]
