"""Rewrites the golden files: ``python -m tests.triggers.golden``."""

from __future__ import annotations

from pgpubsub_sql.sql.trigger import VERSION
from tests.triggers.golden import GOLDEN, VERSIONS, digest, path, recorded

for name, golden in GOLDEN.items():
    path(name).write_text(golden.text, encoding="utf-8")

versions = recorded()
if versions.setdefault(VERSION, digest()) != digest():
    raise SystemExit(
        "The templates have changed, so raise VERSION in pgpubsub_sql/sql/trigger.py, and run this "
        f"again. If no release has version {VERSION}, remove its line from {VERSIONS} instead."
    )
lines = [f"{version} {found}\n" for version, found in versions.items()]
VERSIONS.write_text("".join(lines), encoding="utf-8")
