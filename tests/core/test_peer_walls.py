"""The wall of this node is held to those that members tell."""

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.peer_walls import LEAD_MS_MOST, PERIOD_US, PeerWalls
from flc_udp.model.dots import NodeId
from flc_udp.model.units import SECOND_US, Micros, Millis

ANN = NodeId(b"ann-----")
WALL = 1_700_000_000_000


def at(seconds: float) -> Micros:
    """That long after the beginning."""
    return Micros(int(seconds * SECOND_US))


def test_who_hears_nobody_goes_by_his_own() -> None:
    """Whatever it shows."""
    assert PeerWalls().held(Millis(WALL * 2), at(9)) == WALL * 2


def test_a_wall_is_at_most_an_hour_above_the_highest() -> None:
    """Time goes on for both; a wall that is behind, or not far ahead, stays as it is."""
    walls = PeerWalls()
    walls.heard(ANN, WALL, at(0))
    walls.heard(ANN, WALL - 60_000, at(0))

    assert walls.held(Millis(WALL * 2), at(10)) == WALL + 10_000 + LEAD_MS_MOST
    for ahead_ms in (-(10**12), 0, LEAD_MS_MOST):
        assert walls.held(Millis(WALL + ahead_ms), at(0)) == WALL + ahead_ms


def test_a_member_that_is_not_heard_any_more_counts_no_more() -> None:
    """After two minutes at most, and after one at least."""
    walls = PeerWalls()
    walls.heard(ANN, WALL, at(59))

    assert walls.held(Millis(WALL * 2), at(119)) < WALL * 2
    assert walls.held(Millis(WALL * 2), at(120)) == WALL * 2


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10**13)), max_size=30))
def test_the_highest_of_the_last_minute_counts_always(told: list[tuple[int, int]]) -> None:
    """However members come and go: the wall is held by no less than what they showed in it."""
    walls = PeerWalls()
    for number, (second, wall) in enumerate(sorted(told)):
        walls.heard(NodeId(bytes([number] * 8)), wall, at(second))
    lately = [wall + (300 - second) * 1_000 for second, wall in told if second > 300 - 60]

    held = walls.held(Millis(10**14), at(300))

    assert held >= max(lately, default=0) + LEAD_MS_MOST
    assert held == 10**14 or held <= max(wall for _, wall in told) + 300_000 + LEAD_MS_MOST
    assert at(60) == PERIOD_US
