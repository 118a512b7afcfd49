from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.probe import REMEMBERED_MAX, SECOND, TRIES, Probe, Rejoin, Suspicions
from flc_udp.model.address import Address

INTERVAL, TIMEOUT = SECOND, 400_000
NODES = [bytes([n]) * 8 for n in range(1, 10)]


def address(number: int) -> Address:
    """One of many."""
    return Address(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 7352)


class Rounds:
    """A probe and its clock."""

    def __init__(self, seed: int = 0) -> None:
        self.probe = Probe(Random(seed), INTERVAL, TIMEOUT, 0)
        self.now = 0

    def next_target(self, nodes: list[bytes]) -> bytes | None:
        """Sleep until the next round is due."""
        self.now = self.probe.wake_at
        return self.probe.start(lambda: nodes, self.now)


class TestRounds:
    @given(st.integers(0, 1_000), st.integers(1, 9))
    def test_everybody_is_asked_before_anybody_is_asked_again(self, seed: int, count: int) -> None:
        """Randomized round-robin: each round of N probes is a permutation (SWIM 4.3)."""
        rounds, nodes = Rounds(seed), NODES[:count]
        for _ in range(3):
            assert set(nodes) == {rounds.next_target(nodes) for _ in nodes}

    def test_rounds_differ_in_order(self) -> None:
        """Each pass is shuffled anew."""
        rounds = Rounds()
        passes = {tuple(rounds.next_target(NODES) for _ in NODES) for _ in range(5)}

        assert len(passes) == 5

    def test_one_probe_an_interval(self) -> None:
        """Before the interval is over no round is due."""
        rounds = Rounds()
        rounds.next_target(NODES)
        then = rounds.now

        assert then + INTERVAL == rounds.probe.wake_at
        assert rounds.probe.start(lambda: NODES, then + INTERVAL - 1) is None
        assert rounds.probe.start(lambda: NODES, then + INTERVAL) is not None

    def test_a_stall_is_not_made_good_with_a_burst(self) -> None:
        """After a pause of ten intervals rounds go on at half an interval, not all at once."""
        rounds = Rounds()
        rounds.next_target(NODES)
        late = rounds.now + 10 * INTERVAL
        rounds.probe.start(lambda: NODES, late)

        assert late + INTERVAL // 2 <= rounds.probe.wake_at

    def test_who_is_gone_is_not_asked(self) -> None:
        """Targets that left in mid-round are skipped."""
        rounds = Rounds()
        rounds.next_target(NODES)

        assert {NODES[0]} == {rounds.next_target(NODES[:1]) for _ in range(5)}

    def test_nobody_there_is_nobody_asked(self) -> None:
        """A node alone has rounds without a target."""
        rounds = Rounds()

        assert [rounds.next_target([]) for _ in range(3)] == [None] * 3


class TestAnswers:
    def test_an_ack_in_time_gives_the_round_trip(self) -> None:
        """Sent at 1000, answered at 1300: 300 µs."""
        probe = Rounds().probe
        nonce = probe.ask(NODES[0], 1_000)

        assert probe.receive_ack(nonce, NODES[0], 1_300) == 300
        assert probe.take_overdue(10 * SECOND) == []

    def test_an_ack_counts_once_and_from_its_target_only(self) -> None:
        """Another's ack, another nonce, or a second copy says nothing."""
        probe = Rounds().probe
        nonce = probe.ask(NODES[0], 0)

        assert probe.receive_ack(nonce, NODES[1], 1) is None
        assert probe.receive_ack(nonce ^ 1, NODES[0], 1) is None
        assert probe.receive_ack(nonce, NODES[0], 1) is not None
        assert probe.receive_ack(nonce, NODES[0], 1) is None

    def test_a_probe_fails_after_its_last_try(self) -> None:
        """Three pings, each given a timeout, then none is left."""
        probe = Rounds().probe
        now, tries, left = 0, TRIES, []
        while tries:
            probe.ask(NODES[0], now, tries)
            assert probe.take_overdue(now + TIMEOUT - 1) == []
            now += TIMEOUT
            ((node, tries),) = probe.take_overdue(now)
            left.append(tries)
            assert NODES[0] == node

        assert left == [2, 1, 0]

    def test_an_answer_to_any_try_answers_the_probe(self) -> None:
        """The ack of one ping settles the other pings to that node, and no other node's."""
        probe = Rounds().probe
        probe.ask(NODES[0], 0)
        probe.ask(NODES[1], 0)
        second = probe.ask(NODES[0], TIMEOUT // 2, 2)
        probe.receive_ack(second, NODES[0], TIMEOUT // 2 + 1)

        assert [(NODES[1], TRIES - 1)] == probe.take_overdue(10 * SECOND)

    def test_the_next_deadline_is_the_next_thing_to_do(self) -> None:
        """A ping under way may be due before the next round."""
        rounds = Rounds()
        rounds.next_target(NODES)
        rounds.probe.ask(NODES[0], rounds.now)

        assert rounds.now + TIMEOUT == rounds.probe.wake_at


class TestSuspicions:
    def test_a_suspect_dies_at_its_deadline(self) -> None:
        """Not a microsecond before, and once."""
        suspicions = Suspicions(4 * SECOND)
        suspicions.start(NODES[0], 100)

        assert suspicions.wake_at == 4 * SECOND + 100
        assert suspicions.take_expired(4 * SECOND + 99) == []
        assert [NODES[0]] == suspicions.take_expired(4 * SECOND + 100)
        assert suspicions.take_expired(40 * SECOND) == []
        assert suspicions.wake_at is None

    def test_a_second_accusation_gives_no_more_time(self) -> None:
        """The first deadline stands."""
        suspicions = Suspicions(4 * SECOND)
        suspicions.start(NODES[0], 0)
        suspicions.start(NODES[0], 3 * SECOND)

        assert [NODES[0]] == suspicions.take_expired(4 * SECOND)

    def test_who_refuted_lives(self) -> None:
        """A cleared suspicion never expires, and to clear what is not there is no error."""
        suspicions = Suspicions(4 * SECOND)
        suspicions.start(NODES[0], 0)
        suspicions.clear(NODES[0])
        suspicions.clear(NODES[1])

        assert suspicions.take_expired(100 * SECOND) == []


def asked_at(rejoin: Rejoin, until: int) -> list[tuple[int, Address]]:
    """When whom is asked until then, each time as soon as it is due."""
    asked = []
    while rejoin.wake_at is not None and rejoin.wake_at <= until:
        now = rejoin.wake_at
        found = rejoin.start(now)
        assert found is not None, "due, and nobody asked"
        asked.append((now, found))
    return asked


class TestRejoin:
    def test_all_seeds_are_asked_at_once_and_once(self) -> None:
        """A join waits for no dead seed."""
        rejoin = Rejoin(60 * SECOND, 0)
        seeds = [address(n) for n in range(5)]
        rejoin.add(seeds, 0)

        assert seeds == rejoin.start_all(0)
        assert rejoin.start_all(0) == []
        assert rejoin.start(0) is None

    def test_the_gap_is_a_tenth_of_the_silence_within_bounds(self) -> None:
        """At least a second, at most a minute, else a tenth: over three hours."""
        rejoin = Rejoin(60 * SECOND, 0)
        rejoin.add([address(1)], 0)
        times = [at for at, _ in asked_at(rejoin, 3 * 3_600 * SECOND)]

        assert times[:3] == [0, SECOND, 2 * SECOND]
        for before, after in pairwise(times):
            assert min(max(SECOND, before // 10), 60 * SECOND) == after - before

    @pytest.mark.parametrize("count", [2, 50])
    def test_at_most_one_a_second_over_all(self, count: int) -> None:
        """Many dead cost no more than one, and each is asked."""
        rejoin = Rejoin(60 * SECOND, 0)
        rejoin.add([address(n) for n in range(count)], 0)
        asked = asked_at(rejoin, 300 * SECOND)
        times = [at for at, _ in asked]

        assert all(after - before >= SECOND for before, after in pairwise(times))
        assert {address(n) for n in range(count)} == {whom for _, whom in asked}

    def test_who_answered_is_not_asked(self) -> None:
        """Until it dies again, from when its silence counts."""
        rejoin = Rejoin(60 * SECOND, 0)
        rejoin.add([address(1)], 0)
        rejoin.answered(address(1))

        assert rejoin.wake_at is None

        rejoin.add([address(1)], 1_000 * SECOND)

        assert [at // SECOND for at, _ in asked_at(rejoin, 1_002 * SECOND)] == [1_000, 1_001, 1_002]

    def test_its_memory_is_bounded(self) -> None:
        """A stream of dead members does not fill the memory: the longest silent goes."""
        rejoin = Rejoin(60 * SECOND, 0)
        for number in range(REMEMBERED_MAX + 10):
            rejoin.add([address(number)], number)

        fresh = rejoin.start_all(SECOND)
        assert len(fresh) == REMEMBERED_MAX
        assert address(REMEMBERED_MAX + 9) in fresh
        assert address(0) not in fresh
