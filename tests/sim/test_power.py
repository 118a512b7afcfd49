"""The power goes while a node writes, on honest disks and on disks that lie about syncs."""

from __future__ import annotations

import pytest

from tests.sim.power import play
from tests.store.power import is_possible

pytestmark = pytest.mark.skipif(
    not is_possible(), reason="the SQLite of this Python hides its file functions"
)


@pytest.mark.parametrize("seed", range(50))
def test_an_honest_disk_loses_nothing_that_was_told(seed: int) -> None:
    """Whatever moment the power goes at, the node starts at once with all that it had told."""
    assert play(seed, honest=True)["refused"] == 0


LIES = [*range(40), 43, 55, 137, 139, 148, 174, 400, 566, 601]
"""Those from 43 on once ended in a node that could not be repaired, or failed for good."""


@pytest.mark.parametrize("seed", LIES)
def test_a_disk_that_lied_starts_or_is_repaired(seed: int) -> None:
    """It may have lost its end. Nothing is made up, and all that anybody else has comes back."""
    play(seed, honest=False)
