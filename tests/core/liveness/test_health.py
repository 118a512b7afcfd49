import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.health import CHANGES, Health

SCORE_MAX = 8


@pytest.mark.parametrize(("change", "by"), CHANGES.items())
def test_each_change_moves_the_score_by_its_own(change: str, by: int) -> None:
    """From the middle, so that no bound is in the way; and it is counted by its name."""
    health = Health(SCORE_MAX)
    for _ in range(4):
        health.note("stalled", 0)
    health.note(change, 7)

    assert health.score == 4 + by
    assert health.multiplier == 5 + by
    assert health.counts[change] == 1 + 4 * (change == "stalled")
    assert {"stalled": 0} | {change: 7} == health.last


@given(st.lists(st.sampled_from(sorted(CHANGES))))
def test_it_stays_within_its_bounds(changes: list[str]) -> None:
    """From well, 0, to the worst."""
    health = Health(SCORE_MAX)
    for change in changes:
        health.note(change, 0)
        assert 0 <= health.score <= SCORE_MAX

    assert sum(health.counts.values()) == len(changes)


@given(st.lists(st.sampled_from(sorted(CHANGES))))
def test_off_it_counts_and_does_nothing(changes: list[str]) -> None:
    """Plain SWIM believes itself whatever happens."""
    health = Health(0)
    for change in changes:
        health.note(change, 0)

    assert (health.score, health.multiplier) == (0, 1)
    assert sum(health.counts.values()) == len(changes)


def test_what_is_no_evidence_is_refused() -> None:
    """Every change has a name in the table, so that status can say why."""
    with pytest.raises(KeyError):
        Health(SCORE_MAX).note("mood", 0)
