from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.probe import INDIRECT_TIMEOUTS, Probes, Round, RoundTrip

SECOND = 1_000_000
INTERVAL, TIMEOUT = SECOND, 400_000
NODES = [bytes([n]) * 8 for n in range(1, 10)]


class Rounds:
    """Probes and their clock."""

    def __init__(self, seed: int = 0) -> None:
        self.probes = Probes(Random(seed), INTERVAL, 0)
        self.now = 0

    def next_target(self, nodes: list[bytes]) -> bytes | None:
        """Sleep until the next round is due."""
        self.now = self.probes.wake_at
        return self.probes.take_turn(dict.fromkeys(nodes), 1, self.now)


class TestTurns:
    @given(st.integers(0, 1_000), st.integers(1, 9))
    def test_everybody_is_asked_before_anybody_is_asked_again(self, seed: int, count: int) -> None:
        """Randomized round-robin: each pass of N probes is a permutation (SWIM 4.3)."""
        rounds, nodes = Rounds(seed), NODES[:count]
        for _ in range(3):
            assert set(nodes) == {rounds.next_target(nodes) for _ in nodes}

    def test_passes_differ_in_order(self) -> None:
        """Each is shuffled anew."""
        rounds = Rounds()
        passes = {tuple(rounds.next_target(NODES) for _ in NODES) for _ in range(5)}

        assert len(passes) == 5

    @pytest.mark.parametrize("multiplier", [1, 2, 9])
    def test_one_turn_an_interval_times_local_health(self, multiplier: int) -> None:
        """Before the interval is over no round is due; a node in doubt asks more rarely."""
        rounds, targets = Rounds(), dict.fromkeys(NODES)
        then = rounds.probes.wake_at
        rounds.probes.take_turn(targets, multiplier, then)
        due = then + INTERVAL * multiplier

        assert due == rounds.probes.wake_at
        assert rounds.probes.take_turn(targets, multiplier, due - 1) is None
        assert rounds.probes.take_turn(targets, multiplier, due) is not None

    def test_a_stall_is_not_made_good_with_a_burst(self) -> None:
        """After a pause of ten intervals turns go on at half an interval, not all at once."""
        rounds = Rounds()
        rounds.next_target(NODES)
        late = rounds.now + 10 * INTERVAL
        rounds.probes.take_turn(dict.fromkeys(NODES), 1, late)

        assert late + INTERVAL // 2 <= rounds.probes.wake_at

    def test_who_is_gone_is_not_asked(self) -> None:
        """Targets that left in mid-pass are skipped."""
        rounds = Rounds()
        rounds.next_target(NODES)

        assert {NODES[0]} == {rounds.next_target(NODES[:1]) for _ in range(5)}

    def test_nobody_there_is_nobody_asked(self) -> None:
        """A node alone has turns without a target."""
        rounds = Rounds()

        assert [rounds.next_target([]) for _ in range(3)] == [None] * 3


class TestRound:
    def begin(self, node: bytes = NODES[0], now: int = 0) -> tuple[Probes, Round]:
        """A direct ping under way."""
        probes = Rounds().probes
        return probes, probes.begin(node, TIMEOUT, now)

    def test_an_ack_in_time_gives_the_round_trip(self) -> None:
        """Sent at 1000, answered at 1300: 300 µs."""
        probes, round_ = self.begin(now=1_000)

        assert probes.receive_ack(round_.nonce, NODES[0]) is round_
        assert round_.is_measured
        assert probes.take_overdue(10 * SECOND) == []

    def test_an_ack_counts_once_and_from_its_target_only(self) -> None:
        """Another's ack, another nonce, or a second copy says nothing."""
        probes, round_ = self.begin()

        assert probes.receive_ack(round_.nonce, NODES[1]) is None
        assert probes.receive_ack(round_.nonce ^ 1, NODES[0]) is None
        assert probes.receive_ack(round_.nonce, NODES[0]) is round_
        assert probes.receive_ack(round_.nonce, NODES[0]) is None

    def test_a_round_fails_after_both_stages(self) -> None:
        """A direct timeout, then one long enough for the way through a relay, then it is over."""
        probes, round_ = self.begin()

        assert probes.take_overdue(TIMEOUT - 1) == []
        assert [round_] == probes.take_overdue(TIMEOUT)

        probes.go_indirect(round_, NODES[1:4], TIMEOUT)
        end = TIMEOUT + INDIRECT_TIMEOUTS * TIMEOUT

        assert probes.take_overdue(end - 1) == []
        assert [round_] == probes.take_overdue(end)
        assert probes.take_overdue(10 * SECOND) == []
        assert not probes.is_probing(NODES[0])

    def test_after_a_second_ping_an_ack_is_a_bound_only(self) -> None:
        """It may answer either of them (Karn and Partridge 1987)."""
        probes, round_ = self.begin()
        probes.take_overdue(TIMEOUT)
        probes.go_indirect(round_, (), TIMEOUT)

        assert probes.receive_ack(round_.nonce, NODES[0]) is round_
        assert (round_.sent_at, round_.is_measured) == (0, False)

    def test_a_nack_is_counted_for_the_relays_that_were_asked(self) -> None:
        """Each once; strangers' nacks say nothing."""
        probes, round_ = self.begin()
        probes.take_overdue(TIMEOUT)
        probes.go_indirect(round_, NODES[1:4], TIMEOUT)
        for node in (NODES[1], NODES[1], NODES[2], NODES[7]):
            probes.receive_nack(round_.nonce, node)
        probes.receive_nack(round_.nonce ^ 1, NODES[3])

        assert round_.nacks_missing == 1

    def test_the_next_deadline_is_the_next_thing_to_do(self) -> None:
        """A round under way may be due before the next turn."""
        rounds = Rounds()
        rounds.next_target(NODES)
        rounds.probes.begin(NODES[0], TIMEOUT, rounds.now)

        assert rounds.now + TIMEOUT == rounds.probes.wake_at

    def test_a_stall_moves_the_deadline_and_spoils_the_measurement(self) -> None:
        """An answer that lay in the buffer meanwhile would measure the stall."""
        probes, round_ = self.begin()
        probes.move(7 * SECOND)

        assert probes.take_overdue(7 * SECOND + TIMEOUT - 1) == []
        assert probes.receive_ack(round_.nonce, NODES[0]) is round_
        assert (round_.sent_at, round_.is_measured) == (0, False)

    def test_a_round_that_is_dropped_is_never_overdue(self) -> None:
        """Its target died or left meanwhile; to drop it twice is no error."""
        probes, round_ = self.begin()
        probes.drop(round_.node)
        probes.drop(round_.node)

        assert probes.take_overdue(10 * SECOND) == []
        assert not probes.is_probing(NODES[0])


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("samples", "smoothed", "variation"),
        [
            ((800,), 800, 400),
            ((800, 800), 800, 300),
            ((800, 1_600), 900, 500),
            ((800, 0), 700, 500),
        ],
    )
    def test_it_follows_the_samples(
        self, samples: tuple[int, ...], smoothed: int, variation: int
    ) -> None:
        """An eighth and a quarter of each new sample (RFC 6298, section 2)."""
        first, *others = samples
        trip = RoundTrip.after(None, first)
        for sample in others:
            trip = RoundTrip.after(trip, sample)

        assert (trip.smoothed_us, trip.variation_us) == (smoothed, variation)

    @given(st.lists(st.integers(0, SECOND), min_size=1, max_size=30))
    def test_the_timeout_is_within_its_bounds(self, samples: list[int]) -> None:
        """Whatever was measured, and not below what is usual."""
        trip = RoundTrip.after(None, samples[0])
        for sample in samples[1:]:
            trip = RoundTrip.after(trip, sample)

        assert 100_000 <= trip.timeout_us(100_000, 300_000) <= 300_000
        assert trip.timeout_us(0, SECOND) >= min(trip.smoothed_us, SECOND)
