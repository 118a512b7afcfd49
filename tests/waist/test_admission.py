"""Admission: a node that keeps up is not held back, and one that is behind settles."""

import pytest

from flc_udp.waist.admission import BEHIND_MESSAGES, LOOK_PAUSE_US, RATE_LEAST, RATE_MOST, Admission

TURN = 10_000
SECOND = 1_000_000
OFFERED = 1_000
"""A turn: more than any node can take."""


def take(admission: Admission, now: int, offered: int, behind: int, post: int = 1) -> int:
    """So many messages are offered, in posts of some; how many are taken."""
    allowed = admission.allow(now, behind)
    taken = 0
    while taken < offered and allowed - taken >= 1:
        taken += post
    admission.took(taken, (offered - taken) // post)
    return taken


def test_who_keeps_up_takes_all() -> None:
    """However much is offered, from the first moment on."""
    admission = Admission(0)

    for turn in range(100):
        assert take(admission, turn * TURN, 100_000, BEHIND_MESSAGES, post=10_000) == 100_000


@pytest.mark.parametrize("post", [1, 100])
@pytest.mark.parametrize("capacity", [1_000, 5_000, 20_000])
def test_it_settles_where_the_node_keeps_up(capacity: int, post: int) -> None:
    """Offered without limit: what is taken averages nearly what can be worked off.

    A post is taken as a whole; what it has too many is saved up before the next.
    """
    admission = Admission(0)
    behind = taken = 0.0
    for turn in range(15_000):
        count = take(admission, turn * TURN, OFFERED, int(behind), post)
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
        behind = turn * 10_000 if 200 <= turn < 400 else 0
        count = take(admission, turn * TURN, offered, behind)
        by_second[turn // 100] += count

    assert by_second[3] < 500
    assert 0.6 * 5_000 < by_second[5] < 5_000


def test_nobody_is_shut_out() -> None:
    """A node that is behind for long still takes a few posts a second."""
    admission = Admission(0)
    taken = 0
    for turn in range(1_000):
        count = take(admission, turn * TURN, OFFERED, behind=10**9)
        taken += count if turn >= 500 else 0

    assert 0.8 * RATE_LEAST <= taken / 5 <= 1.2 * RATE_LEAST


def test_it_opens_again() -> None:
    """Once nobody asks for more than is allowed, there is no limit."""
    admission = Admission(0)
    now = 0
    for behind in [10**9] * 50 + [0] * 50:
        now += LOOK_PAUSE_US
        take(admission, now, 1, behind)

    assert admission.rate == RATE_MOST
