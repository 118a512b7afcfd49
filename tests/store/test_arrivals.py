"""Age counts from when a message came here, and none goes early, whatever the clock did."""

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flc_udp.model.block import Block, decode
from flc_udp.model.dots import Dot
from flc_udp.store import arrivals
from flc_udp.store.arrivals import BUCKET_MS
from flc_udp.store.log import Log
from tests.model.stories import Story

MINUTE = BUCKET_MS
DAY = 1_440 * MINUTE


@pytest.fixture
def disk() -> Iterator[sqlite3.Connection]:
    """A disk in memory."""
    disk = sqlite3.connect(":memory:")
    yield disk
    disk.close()


def held(log: Log) -> set[Dot]:
    """What there is."""
    return {decode(encoded).dot for _, encoded in log.reader().after(0, None, 999)}


def prune(log: Log, arrived_before_ms: int) -> None:
    """Prune all that arrived before."""
    while log.retain(arrived_before_ms=arrived_before_ms, bytes_max=None).more:
        pass


def rows(disk: sqlite3.Connection) -> int:
    """How many buckets there are."""
    return int(disk.execute("SELECT count(*) FROM arrival").fetchone()[0])


@pytest.mark.parametrize(
    ("clock", "before", "left"),
    [
        ([0, 5, 10], 0, 3),
        ([0, 5, 10], 1, 2),
        ([0, 5, 10], 5, 2),
        ([0, 5, 10], 6, 1),
        ([0, 5, 10], 11, 0),
        ([0, 5, 10], -5, 3),
        ([10, 5, 0], 10, 3),
        ([10, 5, 0], 11, 0),
        ([0, 1_000, 5, 6], 10, 3),
        ([0, 1_000, 5, 6], 1_001, 0),
        ([5, 5, 5], 6, 0),
    ],
    ids=[
        *("it may be younger", "the minute is over", "as long as it may be younger"),
        *("the old ones", "all are old", "none is old"),
        *("back: as at the latest time", "back: all are old", "far ahead once", "until then"),
        "all at once",
    ],
)
def test_what_is_old_goes(
    disk: sqlite3.Connection, clock: list[int], before: int, left: int
) -> None:
    """Clocks in minutes; a minute's messages may have come at its end."""
    story, log = Story(), Log.over(disk)
    for minutes in clock:
        log.append([story.say("ann")], wall=minutes * MINUTE)
    prune(log, before * MINUTE)
    assert len(held(log)) == left


def test_old_messages_that_came_late_are_young(disk: sqlite3.Connection) -> None:
    """Age is since the arrival here: what another had for long stays, and all above it, too."""
    story, log = Story(), Log.over(disk)
    old, new = story.say("ann", wall=1_000), story.say("bob", wall=9_000)
    log.append([new], wall=0)
    log.append([old], wall=2 * DAY)
    prune(log, DAY)
    assert held(log) == {old.dot, new.dot}
    prune(log, 2 * DAY + MINUTE)
    assert held(log) == set()


def test_what_came_below_the_floor_goes_and_holds_nothing_up(disk: sqlite3.Connection) -> None:
    """A straggler is pruned by the next call, and what is old above it, too."""
    story, log = Story(), Log.over(disk)
    late, first, second = (story.say(author) for author in ("ann", "bob", "bob"))
    log.append([first], wall=0)
    prune(log, MINUTE)
    log.append([second], wall=MINUTE)
    log.append([late], wall=DAY)
    assert late.stamp < log.load().floor
    prune(log, DAY)
    assert held(log) == set()


def test_what_is_pruned_by_age_and_when_is_remembered(disk: sqlite3.Connection) -> None:
    """Buckets whose messages went do not stay, but for the last, which tells the time."""
    story, log = Story(), Log.over(disk)
    for minute in range(20):
        log.append([story.say("ann")], wall=minute * MINUTE)
    assert rows(disk) == 20
    prune(log, 10 * MINUTE)
    assert rows(disk) == 10
    prune(log, DAY)
    assert rows(disk) == 1


def test_nothing_is_known_and_nothing_goes(disk: sqlite3.Connection) -> None:
    """Where no arrival was ever noted, age prunes nothing."""
    log = Log.over(disk)
    log.append([Story().say("ann")])
    disk.execute("DELETE FROM arrival")
    log.recover()
    prune(log, 1 << 50)
    assert len(held(log)) == 1


def test_of_many_buckets_two_become_one(
    disk: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is merged is as young as the younger, and begins where the older did."""
    monkeypatch.setattr(arrivals, "BUCKETS_MAX", 8)
    story, log = Story(), Log.over(disk)
    counts = []
    for minute in range(100):
        log.append([story.say("ann")], wall=minute * MINUTE)
        counts.append(rows(disk))
    assert counts[:13] == [1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8, 6, 7]
    assert set(counts[13:]) == {6, 7, 8}
    for cutoff in range(101):
        prune(log, cutoff * MINUTE)
        assert {m.dot for m in story.said[cutoff:]} <= held(log)
        # The latest are exact, and of the oldest many wait for the last of them.
        if cutoff > 96:
            assert len(held(log)) == 100 - cutoff
    assert held(log) == set()


clocks = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 2, 5, 30, -1, -40, 900]),
        st.sampled_from(["ann", "bob", "cyd"]),
        st.integers(1_000, 1_010),
        st.none() | st.integers(-60, 60),
        st.booleans(),
    ),
    max_size=30,
)
"""By how many half minutes the clock moves, who speaks by which wall clock, and whether then is
pruned what arrived so many half minutes before, and the process ends."""


@pytest.mark.parametrize("buckets", [3, 4, arrivals.BUCKETS_MAX])
@settings(max_examples=60)
@given(steps=clocks)
def test_nothing_is_pruned_early(
    buckets: int, steps: list[tuple[int, str, int, int | None, bool]]
) -> None:
    """What came when the clock showed no less than asked for is held; only what came late is not.

    And with rows enough, what is below all that came later is gone.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrivals, "BUCKETS_MAX", buckets)
        check_clock(steps, is_exact=buckets == arrivals.BUCKETS_MAX and buckets > 100)


def check_clock(steps: list[tuple[int, str, int, int | None, bool]], *, is_exact: bool) -> None:
    """Hold what is held against when it came."""
    disk, story = sqlite3.connect(":memory:"), Story()
    log, now = Log.over(disk), 1_000 * MINUTE
    came: dict[Dot, tuple[Block, int, int]] = {}
    latest = cutoff_max = 0
    for moves, author, wall, prunes, ends in steps:
        now += moves * MINUTE // 2
        latest = max(latest, now)
        message = story.say(author, wall=wall)
        if message.stamp >= log.load().floor:
            came[message.dot] = (message, now, latest)
        log.append([message], wall=now)
        if ends:
            log = Log.over(disk)
        if prunes is None:
            continue
        cutoff = now - prunes * MINUTE // 2
        cutoff_max = max(cutoff_max, cutoff)
        prune(log, cutoff)
        dots = held(log)
        assert {dot for dot, (_, at, _) in came.items() if at >= cutoff_max} <= dots
        if is_exact:
            young = [m.stamp for m, _, seen in came.values() if seen + MINUTE > cutoff]
            least = min(young, default=1 << 62)
            assert {m.dot for m, *_ in came.values() if m.stamp < least} & dots == set()
        assert rows(disk) <= arrivals.BUCKETS_MAX
    disk.close()
