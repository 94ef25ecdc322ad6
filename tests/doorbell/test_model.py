"""The protocol of the doorbell loses no wake-up, and has no step to spare."""

from __future__ import annotations

import pytest

from tests.doorbell.model import FLAWS, lost_wakeups


@pytest.mark.parametrize(("writers", "workers"), [(2, 1), (3, 1), (2, 2), (3, 2), (2, 3)])
def test_no_interleaving_loses_a_wakeup(writers: int, workers: int) -> None:
    states, lost = lost_wakeups(writers, workers)
    assert lost == []
    assert states > 2_000


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_step_of_the_protocol_is_needed(flaw: str) -> None:
    _, lost = lost_wakeups(1, 1, flaw)
    assert lost, flaw
