"""PruningClock's clock, by hand: when a step is due, also after its limits changed."""

from __future__ import annotations

import pytest

from flc_udp.config import Settings
from flc_udp.model.units import SECOND_US
from flc_udp.waist.pruning import (
    APART_MAX_MS,
    LOOK_PAUSE_MAX_US,
    LOOK_PAUSE_US,
    STEP_PAUSE_US,
    AgeClock,
    PruningClock,
)

NOW, WALL = 1_000, 1_700_000_000_000
ALL = Settings()
LITTLE = Settings(retention_bytes=1 << 20)
LONG = Settings(retention_age_s=1 << 30)


def test_who_keeps_all_looks_at_nothing() -> None:
    """And begins to where it is limited, in its own time."""
    retention = PruningClock(ALL, NOW)
    assert retention.wake_at is None
    assert retention.take_due(NOW, WALL) is None

    retention.limit(LITTLE, NOW)

    assert retention.wake_at == NOW + LOOK_PAUSE_US
    assert retention.take_due(NOW + LOOK_PAUSE_US, WALL) == (None, 1 << 20)


def test_a_step_under_way_is_done_first() -> None:
    """No second one is made beside it; after it the new limits count."""
    retention = PruningClock(LITTLE, NOW)
    assert retention.take_due(NOW + LOOK_PAUSE_US, WALL) is not None

    retention.limit(LONG, NOW + LOOK_PAUSE_US)
    assert retention.wake_at is None
    retention.done(NOW + LOOK_PAUSE_US, more=True)

    assert retention.wake_at == NOW + LOOK_PAUSE_US + STEP_PAUSE_US
    limits = retention.take_due(retention.wake_at, WALL)
    assert limits == (WALL - (1_000 << 30), None)


def test_who_keeps_all_again_makes_no_more_steps() -> None:
    """Neither the one that is due nor the one after that under way."""
    waiting, stepping = PruningClock(LITTLE, NOW), PruningClock(LITTLE, NOW)
    stepping.take_due(NOW + LOOK_PAUSE_US, WALL)

    waiting.limit(ALL, NOW)
    stepping.limit(ALL, NOW + LOOK_PAUSE_US)
    stepping.done(NOW + LOOK_PAUSE_US, more=True)

    assert (waiting.wake_at, stepping.wake_at) == (None, None)


def test_limits_given_again_and_again_put_nothing_off() -> None:
    """What was due stays due."""
    retention = PruningClock(LONG, NOW)

    retention.limit(LONG, NOW + LOOK_PAUSE_MAX_US - 1)

    assert retention.wake_at == NOW + LOOK_PAUSE_MAX_US


@pytest.mark.parametrize("latest", [0, WALL, WALL - 3_600_000, WALL - APART_MAX_MS])
def test_ages_go_by_a_clock_that_is_believed(latest: int) -> None:
    """Of the start; afterwards by what passes, whatever the wall clock then shows."""
    ages = AgeClock(latest, WALL, NOW)

    assert ages.is_sure
    assert ages.time(NOW) == WALL
    assert ages.time(NOW + 90 * SECOND_US) == WALL + 90_000


@pytest.mark.parametrize("latest", [1, WALL + 1, WALL - APART_MAX_MS - 1, 4_000_000_000_000])
def test_a_clock_that_jumped_by_years_makes_nothing_old(latest: int) -> None:
    """From 1970 to today, from today to 2099, and back: time goes on from the latest arrival."""
    ages = AgeClock(latest, WALL, NOW)

    assert not ages.is_sure
    assert ages.time(NOW) == latest
    assert ages.time(NOW + 90 * SECOND_US) == latest + 90_000
