"""Registries of each test's own."""

from __future__ import annotations

from tests.registries import blank, install_app  # noqa: F401 - fixtures
