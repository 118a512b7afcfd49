from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.rejoin import ASKERS, REMEMBERED_MAX, Rejoin
from flc_udp.model.address import Address
from flc_udp.model.units import NEVER, SECOND_US


def address(number: int) -> Address:
    """One of many."""
    return Address(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 7352)


def asked_at(rejoin: Rejoin, until: int) -> list[tuple[int, Address]]:
    """When whom is asked until then, each time as soon as it is due."""
    asked = []
    while rejoin.wake_at <= until:
        now = rejoin.wake_at
        found = rejoin.start(0, now)
        assert found is not None, "due, and nobody asked"
        asked.append((now, found))
    return asked


class TestRejoin:
    def test_all_seeds_are_asked_at_once_and_once(self) -> None:
        """A join waits for no dead seed."""
        rejoin = Rejoin(60 * SECOND_US, Random(0), 0)
        seeds = [address(n) for n in range(5)]

        assert seeds == rejoin.join(seeds, 0)
        assert rejoin.join(seeds, 0) == []
        assert rejoin.start(0, 0) is None

    def test_the_gap_is_a_tenth_of_the_silence_within_bounds(self) -> None:
        """At least a second, at most a minute, else a tenth, less a quarter of it by chance."""
        rejoin = Rejoin(60 * SECOND_US, Random(0), 0)
        rejoin.join([address(1)], 0)
        times = [0, *(at for at, _ in asked_at(rejoin, 3 * 3_600 * SECOND_US))]

        assert times[:3] == [0, SECOND_US, 2 * SECOND_US]
        for before, after in pairwise(times):
            gap = min(max(SECOND_US, before // 10), 60 * SECOND_US)
            assert max(SECOND_US, gap * 3 // 4) <= after - before <= gap

    @pytest.mark.parametrize("count", [2, 50])
    def test_at_most_one_a_second_over_all(self, count: int) -> None:
        """Many dead cost no more than one, and each is asked."""
        rejoin = Rejoin(60 * SECOND_US, Random(0), 0)
        rejoin.join([address(n) for n in range(count)], 0)
        asked = asked_at(rejoin, 300 * SECOND_US)
        times = [at for at, _ in asked]

        assert all(after - before >= SECOND_US for before, after in pairwise(times))
        assert {address(n) for n in range(count)} == {whom for _, whom in asked}

    def test_who_answered_is_not_asked(self) -> None:
        """Until it dies again, from when its silence counts."""
        rejoin = Rejoin(60 * SECOND_US, Random(0), 0)
        rejoin.join([address(1)], 0)
        rejoin.answered(address(1))

        assert rejoin.wake_at == NEVER

        rejoin.join([address(1)], 1_000 * SECOND_US)

        assert [at // SECOND_US for at, _ in asked_at(rejoin, 1_002 * SECOND_US)] == [1_001, 1_002]

    def test_its_memory_is_bounded(self) -> None:
        """A stream of dead members does not fill the memory: the longest silent goes."""
        rejoin = Rejoin(60 * SECOND_US, Random(0), 0)
        added = [address(number) for number in range(REMEMBERED_MAX + 10)]
        for now, each in enumerate(added):
            rejoin.join([each], now)

        assert rejoin.join(added[10:], SECOND_US) == []
        assert rejoin.join(added[:10], SECOND_US) == added[:10]

    @given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.integers(1, 60))
    def test_gaps_and_rate_whenever_they_fell_silent(self, since: list[int], longest: int) -> None:
        """Alone or among others: one a second over all, and no gap above the longest.

        With n addresses due at once the last waits n seconds more.
        """
        rejoin = Rejoin(longest * SECOND_US, Random(0), 0)
        for number, at in enumerate(since):
            rejoin.join([address(number)], at * SECOND_US)
        asked = asked_at(rejoin, 1_000 * SECOND_US)
        by_address: dict[Address, list[int]] = {}
        for at, whom in asked:
            by_address.setdefault(whom, []).append(at)

        assert all(b[0] - a[0] >= SECOND_US for a, b in pairwise(asked))
        assert len(by_address) == len(since)
        gap = (longest + len(since)) * SECOND_US
        assert all(b - a <= gap for times in by_address.values() for a, b in pairwise(times))

    @pytest.mark.parametrize("live", [4, 30, 300])
    def test_those_who_miss_the_same_one_share_the_asking(self, live: int) -> None:
        """However many they are, about three ask in each gap, from the first second on."""
        since, until = 1_000 * SECOND_US, 1_010 * SECOND_US
        asked = 0
        for number in range(live):
            rejoin = Rejoin(60 * SECOND_US, Random(number), 0)
            rejoin.add_dead(address(1), live, since)
            while rejoin.wake_at <= until:
                now = rejoin.wake_at
                assert now >= since
                assert rejoin.start(live, now) == address(1)
                asked += 1

        assert ASKERS * 10 / 4 <= asked <= ASKERS * 10 * 2
