"""Admission: a node that keeps up is not held back, and one that is behind settles."""

import pytest

from flc_udp.waist.admission import BEHIND_MESSAGES, LOOK_PAUSE_US, RATE_LEAST, RATE_MOST, Admission

TURN = 10_000
SECOND = 1_000_000
OFFERED = 1_000
"""A turn: more than any node can take."""


def test_who_keeps_up_takes_all() -> None:
    """However much is offered, from the first moment on."""
    admission = Admission(0)

    for turn in range(100):
        assert admission.take(turn * TURN, 100_000, behind=BEHIND_MESSAGES) == 100_000


@pytest.mark.parametrize("capacity", [1_000, 5_000, 20_000])
def test_it_settles_where_the_node_keeps_up(capacity: int) -> None:
    """Offered without limit: what is taken averages nearly what can be worked off."""
    admission = Admission(0)
    behind = taken = 0.0
    for turn in range(15_000):
        count = admission.take(turn * TURN, OFFERED, int(behind))
        # All posts are others' work too: beyond what can be done they pile up.
        behind = max(behind + count - capacity * TURN / SECOND, 0)
        taken += count if turn >= 5_000 else 0

    assert 0.75 * capacity <= taken / 100 <= 1.05 * capacity
    assert behind < 3 * BEHIND_MESSAGES + capacity


def test_what_was_taken_before_is_soon_taken_again() -> None:
    """However deep the rate fell: most of it within a second, and more only slowly."""
    admission = Admission(0)
    by_second = [0.0] * 12
    for turn in range(1_200):
        offered = 50 if turn < 205 else OFFERED
        count = admission.take(turn * TURN, offered, turn * 10_000 if 200 <= turn < 400 else 0)
        by_second[turn // 100] += count

    assert by_second[3] < 500
    assert 0.6 * 5_000 < by_second[5] < 5_000


def test_nobody_is_shut_out() -> None:
    """A node that is behind for long still takes a few posts a second."""
    admission = Admission(0)
    taken = 0
    for turn in range(1_000):
        count = admission.take(turn * TURN, OFFERED, behind=10**9)
        taken += count if turn >= 500 else 0

    assert 0.8 * RATE_LEAST <= taken / 5 <= 1.2 * RATE_LEAST


def test_it_opens_again() -> None:
    """Once nobody asks for more than is allowed, there is no limit."""
    admission = Admission(0)
    now = 0
    for behind in [10**9] * 50 + [0] * 50:
        now += LOOK_PAUSE_US
        admission.take(now, 1, behind)

    assert admission.rate == RATE_MOST
