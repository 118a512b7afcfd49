import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.health import Change, Health

SCORE_MAX = 8

POINTS = {
    Change.PROBE_ANSWERED: -1,
    Change.ALONE: -1,
    Change.PROBE_FAILED: +1,
    Change.NACK_MISSING: +1,
    Change.ACCUSED: +1,
    Change.STALLED: +1,
    Change.SLOW_COMMIT: +1,
}


@pytest.mark.parametrize(("change", "by"), POINTS.items())
def test_each_change_moves_the_score_by_its_own(change: Change, by: int) -> None:
    """From the middle, so that no bound is in the way; and it is counted by its name."""
    health = Health(SCORE_MAX)
    for _ in range(4):
        health.note(Change.STALLED, 0)
    health.note(change, 7)

    assert health.score == 4 + by
    assert health.multiplier == 5 + by
    assert health.counts[change] == 1 + 4 * (change is Change.STALLED)
    assert {Change.STALLED: 0} | {change: 7} == health.last


@given(st.lists(st.sampled_from(Change)))
def test_it_stays_within_its_bounds(changes: list[Change]) -> None:
    """From well, 0, to the worst."""
    health = Health(SCORE_MAX)
    for change in changes:
        health.note(change, 0)
        assert 0 <= health.score <= SCORE_MAX

    assert sum(health.counts.values()) == len(changes)


@given(st.lists(st.sampled_from(Change)))
def test_off_it_counts_and_does_nothing(changes: list[Change]) -> None:
    """Plain SWIM believes itself whatever happens."""
    health = Health(0)
    for change in changes:
        health.note(change, 0)

    assert (health.score, health.multiplier) == (0, 1)
    assert sum(health.counts.values()) == len(changes)


def test_what_is_no_evidence_is_refused() -> None:
    """Every change has a name of its own, so that status can say why."""
    assert POINTS.keys() == set(Change)
    with pytest.raises(ValueError, match="mood"):
        Change("mood")
