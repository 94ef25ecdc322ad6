"""The table of the documentation is that of the runner."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import ROOT
from tests.ecosystem import scenario
from tests.ecosystem.packages import PACKAGES

PAGE = ROOT / "docs" / "reference" / "compatibility.md"
SETTINGS = Path(__file__).with_name("project") / "settings"
COLUMNS = {"psycopg2": 2, "psycopg": 3}


def documented() -> dict[str, list[str]]:
    """Return the rows of the table by their first cell."""
    (table,) = re.findall(r"^\| package .*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row for row in rows}


def test_every_package_is_documented_and_every_documented_one_is_tried() -> None:
    assert list(documented()) == [package.name for package in PACKAGES]


def test_what_is_tried_with_a_driver_has_a_result() -> None:
    for package in PACKAGES:
        row = documented()[package.name]
        for driver, column in COLUMNS.items():
            assert (row[column] == "n/a") is (driver not in package.drivers), package.name


def test_every_package_has_settings_and_a_scenario() -> None:
    for package in PACKAGES:
        assert (SETTINGS / f"{package.settings}.py").exists(), package.name
        assert callable(getattr(scenario, package.scenario)), package.name


def test_labels_tell_packages_apart() -> None:
    labels = {package.label for package in PACKAGES}
    assert len(labels) == len(PACKAGES)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,50}", label) for label in labels)
