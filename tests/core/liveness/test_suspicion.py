import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.suspicion import Suspicions, timeout_after
from flc_udp.model.units import NEVER

SECOND = 1_000_000
NODES = [bytes([n]) * 8 for n in range(1, 10)]


class TestTimeout:
    @pytest.mark.parametrize(
        ("accusers", "seconds"),
        [(0, 30_000), (1, 16_000), (2, 7_811), (3, 2_000), (4, 2_000), (100, 2_000)],
    )
    def test_it_falls_with_the_logarithm(self, accusers: int, seconds: int) -> None:
        """Of 2 to 30 s with three accusers enough: the table of memberlist's suspicion test."""
        assert timeout_after(accusers, 3, 2_000, 30_000) == seconds

    def test_where_nobody_can_confirm_it_is_the_shortest(self) -> None:
        """Two nodes alone have nobody to ask."""
        assert timeout_after(0, 0, 2_000, 30_000) == 2_000

    @given(st.integers(1, 10), st.integers(0, 20), st.integers(1, 10**9), st.integers(0, 10**9))
    def test_it_is_monotone_within_its_bounds(
        self, enough: int, accusers: int, shortest: int, more: int
    ) -> None:
        """One more accuser never gives more time."""
        longest = shortest + more
        times = [timeout_after(n, enough, shortest, longest) for n in range(accusers + 1)]

        assert times == sorted(times, reverse=True)
        assert times[0] == longest
        assert shortest <= times[-1] <= longest


class TestSuspicions:
    def begun(self, now: int = 0, enough: int = 3) -> Suspicions:
        """One suspect of 2 to 12 s, accused by one."""
        suspicions = Suspicions()
        suspicions.start(NODES[0], NODES[1], (enough, 2 * SECOND, 12 * SECOND), now)
        return suspicions

    def test_a_lone_accuser_has_to_wait(self) -> None:
        """Not a microsecond before its longest time, and once."""
        suspicions = self.begun(100)

        assert suspicions.wake_at == 12 * SECOND + 100
        assert suspicions.take_expired(12 * SECOND + 99) == []
        assert [NODES[0]] == suspicions.take_expired(12 * SECOND + 100)
        assert suspicions.take_expired(40 * SECOND) == []
        assert suspicions.wake_at == NEVER

    def test_enough_accusers_make_it_the_shortest(self) -> None:
        """Each brings the end nearer, the last one to the least, counted from the start."""
        suspicions = self.begun()
        ends = []
        for accuser in NODES[2:5]:
            assert suspicions.confirm(NODES[0], accuser)
            ends.append(suspicions.wake_at)

        assert ends == [7 * SECOND, 4_075_187, 2 * SECOND]

    def test_only_independent_accusers_count(self) -> None:
        """The same again, one too many, or of nobody who is suspected: no news."""
        suspicions = self.begun(enough=1)

        assert not suspicions.confirm(NODES[0], NODES[1])
        assert suspicions.confirm(NODES[0], NODES[2])
        assert not suspicions.confirm(NODES[0], NODES[2])
        assert not suspicions.confirm(NODES[0], NODES[3])
        assert not suspicions.confirm(NODES[8], NODES[3])
        assert suspicions.wake_at == 2 * SECOND

    def test_who_refuted_lives(self) -> None:
        """A cleared suspicion never expires, and to clear what is not there is no error."""
        suspicions = self.begun()
        suspicions.clear(NODES[0])
        suspicions.clear(NODES[1])

        assert len(suspicions) == 0
        assert suspicions.take_expired(100 * SECOND) == []

    def test_a_stall_gives_the_time_back(self) -> None:
        """While this node stood still no refutation could be heard."""
        suspicions = self.begun()
        suspicions.move(5 * SECOND)

        assert suspicions.take_expired(17 * SECOND - 1) == []
        assert [NODES[0]] == suspicions.take_expired(17 * SECOND)

    def test_accusers_are_known_by_what_they_accuse(self) -> None:
        """How many members one holds for suspect by its own probes."""
        suspicions = self.begun()
        suspicions.start(NODES[2], NODES[1], (3, 1, 2), 0)
        suspicions.confirm(NODES[0], NODES[3])

        assert [suspicions.accused_by(NODES[n]) for n in (1, 3, 0)] == [2, 1, 0]
