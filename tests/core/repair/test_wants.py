from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.repair.pull_packets import LOGS_PER_PULL
from flc_udp.core.repair.wanted_log import (
    FAILURES_MAX,
    FAILURES_QUICK,
    FLOWS_MAX_US,
    FLOWS_US,
    TELLERS_MAX,
)
from flc_udp.core.repair.wants import LATE_MAX, PULLS_MAX, WANTS_MAX, Wants
from flc_udp.model.dots import Spans
from flc_udp.model.errors import Drop
from flc_udp.model.units import NEVER

TIMEOUT_US = 400_000
PEERS = [f"peer{n}".encode().ljust(8, b"-") for n in range(PULLS_MAX + 3)]
ANN, BOB, CYD = PEERS[:3]


def log(number: int) -> bytes:
    """One of many logs."""
    return number.to_bytes(8, "big")


class Puller:
    """Wants, the heads they are held against, a clock and nonces."""

    def __init__(self) -> None:
        self.drops: Counter[Drop] = Counter()
        self.wants = Wants(self.gaps, TIMEOUT_US, TIMEOUT_US, self.drops)
        self.heads: dict[bytes, int] = {}
        self.gaps_of: dict[bytes, list[tuple[int, int]]] = {}
        """Where more than a head is held."""
        self.looks = 0
        self.now = 0
        self._nonce = 0

    def gaps(self, log: bytes, upper: int) -> Spans:
        """What is missing up to there."""
        self.looks += 1
        if log in self.gaps_of:
            return Spans([(a, min(b, upper)) for a, b in self.gaps_of[log] if a <= upper])
        head = self.heads.get(log, 0)
        return Spans([(head + 1, upper)] if upper > head else [])

    @property
    def nonces(self) -> list[int]:
        """Nonces of the pulls under way."""
        return list(self.wants.pulls)

    def ask(
        self, live: Iterable[bytes] = PEERS, *, is_busy: bool = False
    ) -> dict[bytes, tuple[int, list[bytes]]]:
        """What is asked now: {peer: (nonce, logs)}."""
        asked = {}
        self.wants.ripen(self.now)
        chosen = self.wants.take_due(self.now, live, is_busy=is_busy)
        for peer, spans in chosen.items():
            self._nonce += 1
            self.wants.asked(self._nonce, peer, spans, self.now)
            asked[peer] = (self._nonce, [log for log, _ in spans])
        return asked

    def end(self, nonce: int, peer: bytes) -> None:
        """A replay ended."""
        self.wants.ended(nonce, peer, self.now)

    def sleep(self) -> None:
        """Until the next deadline; silent pulls are given up then."""
        assert self.wants.wake_at != NEVER
        self.now = max(self.now, self.wants.wake_at)
        self.wants.close_silent(self.now)


def test_the_teller_is_asked_when_it_is_due_and_not_before() -> None:
    """Whoever told of a message holds its causes."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 1_000)

    assert puller.wants.wake_at == 1_000
    assert puller.ask() == {}

    puller.now = 1_000

    assert {BOB: (1, [log(1)])} == puller.ask()


def test_who_tells_of_it_later_and_for_sooner_is_asked_sooner() -> None:
    """A digest leaves time for what is under way; a `have` tells that it should come."""
    puller = Puller()
    puller.wants.add(log(1), 5, ANN, 200_000, by_digest=True)
    puller.wants.add(log(1), 6, BOB, 10_000)

    assert puller.wants.wake_at == 10_000

    puller.now = 10_000

    assert {BOB: (1, [log(1)])} == puller.ask()


def test_what_a_pull_waits_for_is_not_dropped_before_its_end() -> None:
    """A late window of catch-up brought it, which had given the log back: the daemon went down."""
    puller = Puller()
    puller.wants.add(log(1), 5, ANN, 0)
    nonce, _ = puller.ask()[ANN]
    puller.heads[log(1)] = 5

    puller.wants.recount({log(1): True})
    puller.end(nonce, ANN)

    assert puller.nonces == []
    assert puller.wants.to_go == 0


def test_a_log_is_asked_of_one_peer_at_a_time() -> None:
    """However many told of it, while one is asked no other is."""
    puller = Puller()
    for peer in PEERS:
        puller.wants.add(log(1), 5, peer, 0)

    assert len(puller.ask()) == 1

    puller.wants.add(log(1), 9, CYD, 0)

    assert puller.ask() == {}


def test_at_most_so_many_peers_are_asked_at_once() -> None:
    """The others wait until a pull ends."""
    puller = Puller()
    for number, peer in enumerate(PEERS):
        puller.wants.add(log(number), 5, peer, 0)
    asked = puller.ask()

    assert PEERS[:PULLS_MAX] == list(asked)
    assert puller.ask() == {}

    puller.heads[log(0)] = 5
    puller.end(1, ANN)

    assert [PEERS[PULLS_MAX]] == list(puller.ask())


class TestFlow:
    """What the tree brings in order is not asked for."""

    def told(self, upper: int = 9) -> Puller:
        """Five of a log are here, and somebody holds more."""
        puller = Puller()
        puller.heads[log(1)] = 5
        puller.wants.add(log(1), upper, ANN, 10_000)
        return puller

    def flow(self, puller: Puller, until: int, every_us: int, step: int = 1) -> list[int]:
        """The tree goes on. Return the moments at which something was asked for."""
        asked = []
        while puller.now < until:
            puller.now += every_us
            puller.heads[log(1)] += step
            puller.wants.flowed(log(1), puller.now)
            if puller.ask():
                asked.append(puller.now)
        return asked

    def test_while_it_flows_nothing_is_asked_for_or_counted(self) -> None:
        """However long that goes on, if each mark is reached within a second."""
        puller = self.told()
        for upper in range(40, 4_000, 40):
            puller.wants.add(log(1), upper, ANN, puller.now)
            assert self.flow(puller, puller.now + 40 * 1_000, 1_000) == []
        assert puller.wants.to_go == 0

        puller.heads[log(1)] = 3_960
        puller.now += FLOWS_US
        assert puller.ask() == {}
        assert puller.wants.is_idle

    def test_once_it_stands_still_the_rest_is_asked_for(self) -> None:
        """The last ones may be lost: nothing that comes later shows it."""
        puller = self.told(9)
        assert self.flow(puller, 12_000, 4_000) == []
        while not (asked := puller.ask()):
            puller.sleep()

        assert asked == {ANN: (1, [log(1)])}
        assert puller.now <= 12_000 + FLOWS_US
        assert puller.wants.to_go == 1

    def test_once_it_stands_still_much_is_counted_and_left_to_catch_up(self) -> None:
        """What flows is not counted, or a node under load would hold itself for one that lags."""
        puller = self.told(2_000)
        assert self.flow(puller, 20_000, 4_000) == []
        puller.now += FLOWS_US
        puller.wants.ripen(puller.now)

        assert puller.wants.take_many(has_begun=False) == {log(1): 1_990}

    def test_a_gap_is_asked_for_though_the_tree_brings_later_ones(self) -> None:
        """Those that are held back show that it is missing."""
        puller = self.told(9)
        puller.wants.flowed(log(1), 9_000)
        puller.gaps_of[log(1)] = [(6, 7)]
        puller.now = 10_000

        assert puller.ask() == {ANN: (1, [log(1)])}

    def test_what_stays_behind_a_mark_for_a_second_is_asked_for(self) -> None:
        """A tree that is so slow, or a teller of more than there is, is not waited for."""
        puller = self.told(1 << 52)
        asked = self.flow(puller, 2 * FLOWS_MAX_US, 10_000)

        assert FLOWS_MAX_US <= asked[0] <= FLOWS_MAX_US + FLOWS_US

    def test_a_teller_of_more_than_there_is_costs_the_log_no_repair(self) -> None:
        """An insider says 2^53: a real gap is asked for all the same, of an honest one, too."""
        puller = self.told(1 << 53)
        puller.wants.add(log(1), 9, BOB, 10_000)
        puller.gaps_of[log(1)] = [(6, 7), (10, 1 << 53)]
        puller.wants.flowed(log(1), 9_000)
        puller.now, asked = 10_000, []
        for _ in range(4):
            asked += list(puller.ask())
            puller.sleep()

        assert set(asked[:2]) == {ANN, BOB}

    def test_a_want_ends_though_a_teller_lies_for_ever(self) -> None:
        """It is given up when nobody brings any of it, flow or not."""
        puller = self.told(1 << 53)
        assert self.flow(puller, 2 * FLOWS_MAX_US, 10_000)
        for _ in range(4 * FAILURES_MAX):
            if puller.wants.wake_at == NEVER:
                break
            puller.sleep()
            puller.ask()

        assert puller.wants.to_go == 0
        assert puller.wants.is_idle


def test_logs_of_one_teller_share_its_pull() -> None:
    """One pull names many logs, up to a bound."""
    puller = Puller()
    for number in range(LOGS_PER_PULL + 5):
        puller.wants.add(log(number), 5, BOB, 0)
    asked = puller.ask()

    assert list(asked) == [BOB]
    assert len(asked[BOB][1]) == LOGS_PER_PULL


def test_a_fruitful_pull_is_continued_at_once() -> None:
    """What it did not bring is asked for again without a pause, of the same."""
    puller = Puller()
    puller.wants.add(log(1), 100, BOB, 0)
    puller.ask()
    puller.heads[log(1)] = 40
    puller.end(1, BOB)

    assert {BOB: (2, [log(1)])} == puller.ask()


def test_a_fruitless_pull_is_asked_of_another_at_once() -> None:
    """The peer that had nothing goes to the end of the row; after some there are pauses."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    puller.wants.add(log(1), 5, CYD, 0)
    puller.ask()
    puller.end(1, BOB)

    assert {CYD: (2, [log(1)])} == puller.ask()

    for nonce in range(2, FAILURES_QUICK + 1):
        puller.end(nonce, CYD if nonce % 2 == 0 else BOB)
        assert list(puller.ask()) == [BOB if nonce % 2 == 0 else CYD]
    puller.end(FAILURES_QUICK + 1, BOB if FAILURES_QUICK % 2 == 0 else CYD)

    assert puller.ask() == {}


def test_silence_is_a_failure() -> None:
    """After the timeout another is asked."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    puller.wants.add(log(1), 5, CYD, 0)
    puller.ask()
    puller.sleep()

    assert puller.now == TIMEOUT_US
    assert puller.nonces == []
    assert {CYD} == set(puller.ask())


def test_a_pull_that_is_heard_lives_on() -> None:
    """Each part of a replay gives it the timeout anew."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    puller.ask()

    assert puller.wants.heard(1, BOB, 300_000) == 5

    puller.wants.close_silent(TIMEOUT_US + 1)

    assert puller.nonces == [1]


def test_only_who_was_asked_is_heard() -> None:
    """Another's nonce, or another's replay of ours, is not what was asked for."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    puller.ask()

    assert puller.wants.heard(2, BOB, 0) is None
    assert puller.wants.heard(1, CYD, 0) is None

    puller.end(1, CYD)
    puller.end(2, BOB)

    assert puller.nonces == [1]


def test_the_living_are_asked_where_no_teller_lives() -> None:
    """Any peer may hold it."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)

    assert {CYD: (1, [log(1)])} == puller.ask([CYD])


def test_with_nobody_there_the_want_stays() -> None:
    """When somebody comes it is asked for."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)

    assert puller.ask([]) == {}

    puller.sleep()

    assert {BOB: (1, [log(1)])} == puller.ask()


def test_while_the_disk_is_behind_nothing_is_asked() -> None:
    """And the end of a commit looks again at once."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)

    assert puller.ask(is_busy=True) == {}

    puller.wants.look_again(puller.now)

    assert puller.now == puller.wants.wake_at
    assert {BOB: (1, [log(1)])} == puller.ask()


def test_what_nobody_can_serve_is_let_go() -> None:
    """After so many pulls in a row that brought nothing; each later than the one before."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    asked = []
    for _ in range(4 * FAILURES_MAX):
        for peer, (nonce, _) in puller.ask().items():
            asked.append(puller.now)
            puller.end(nonce, peer)
        if puller.wants.wake_at != NEVER:
            puller.sleep()
    pauses = [after - before for before, after in pairwise(asked)]

    assert len(asked) == FAILURES_MAX
    assert sorted(pauses) == pauses
    assert puller.drops == {Drop.WANT_GIVEN_UP: 1}

    puller.wants.add(log(1), 5, CYD, puller.now)

    assert {CYD} == set(puller.ask())


def test_what_came_some_other_way_is_not_asked_for() -> None:
    """A rumor that filled the gap ends the want."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 1_000)
    puller.heads[log(1)] = 5
    puller.now = 1_000

    assert puller.ask() == {}
    assert puller.wants.wake_at == NEVER
    assert puller.wants.to_go == 0


def test_who_told_of_the_most_is_asked_first() -> None:
    """The latest teller of a greater head holds all the others know of."""
    puller = Puller()
    puller.wants.add(log(1), 5, BOB, 0)
    puller.wants.add(log(1), 9, CYD, 0)
    puller.wants.add(log(1), 7, ANN, 0)

    assert {CYD} == set(puller.ask())
    assert puller.wants.to_go == 9


def test_tellers_and_wants_are_bounded() -> None:
    """A stream of tellings does not fill the memory."""
    puller = Puller()
    for number in range(TELLERS_MAX * 3):
        puller.wants.add(log(0), 1, number.to_bytes(8, "little"), 0)
    for number in range(WANTS_MAX + 10):
        puller.wants.add(log(number), 1, BOB, 0)
    puller.ask([])

    assert puller.wants.claimed == WANTS_MAX


@pytest.mark.parametrize("slow", [1, 5, 50])
def test_no_log_starves(slow: int) -> None:
    """With many logs and one peer that brings little each time, every log is asked for."""
    puller = Puller()
    logs = [log(number) for number in range(4 * LOGS_PER_PULL)]
    for each in logs:
        puller.wants.add(each, 1_000, BOB, 0)
    seen: set[bytes] = set()
    for _ in range(8):
        for peer, (nonce, asked) in puller.ask().items():
            seen |= set(asked)
            puller.now += 1_000
            for each in asked:
                puller.heads[each] = puller.heads.get(each, 0) + slow
            puller.end(nonce, peer)

    assert set(logs) == seen


class Dialogue(Puller):
    """A puller whose pulls are served or go silent, as a test has it."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[bytes, tuple[int, list[bytes]]] = {}

    def go_on(self) -> None:
        """Ask for what is due: of nobody twice, for no log twice, of not too many."""
        for peer, pull in self.ask().items():
            assert peer not in self.under_way
            self.under_way[peer] = pull
        logs = [log for _, logs in self.under_way.values() for log in logs]
        assert len(self.under_way) <= PULLS_MAX
        assert len(set(logs)) == len(logs)

    def serve(self, count: int) -> None:
        """The first that was asked brings so many messages of each log."""
        for peer, (nonce, logs) in list(self.under_way.items())[:1]:
            for each in logs:
                self.heads[each] = self.heads.get(each, 0) + count
            self.end(nonce, peer)
            del self.under_way[peer]

    def wait(self) -> None:
        """Until something is due; who is silent too long is given up."""
        if self.wants.wake_at != NEVER:
            self.sleep()
        self.under_way = {p: a for p, a in self.under_way.items() if a[0] in self.nonces}


@given(
    st.lists(
        st.tuples(st.just("tell"), st.integers(0, 5), st.integers(1, 30), st.sampled_from(PEERS))
        | st.tuples(st.just("serve"), st.integers(0, 30))
        | st.tuples(st.just("wait")),
        max_size=40,
    )
)
def test_whatever_happens_everything_is_fetched_or_let_go(steps: list) -> None:
    """No order of tellings, replays and silences leaves a want that nobody will ever ask for."""
    talk = Dialogue()
    for step in steps:
        match step:
            case ("tell", number, upper, peer):
                talk.wants.add(log(number), upper, peer, talk.now)
            case ("serve", count):
                talk.serve(count)
            case _:
                talk.wait()
        talk.go_on()
    for _ in range(1_000):
        talk.serve(30)
        talk.wait()
        talk.go_on()

    assert (talk.wants.wake_at, talk.nonces) == (NEVER, [])
    assert talk.wants.to_go == 0


def test_many_logs_cost_each_a_few_looks() -> None:
    """A newcomer to 10,000 logs looks at each a few times in all, not at all of them each time."""
    puller = Puller()
    for number in range(10_000):
        puller.wants.add(log(number), 3, BOB, 0)
    rounds = 0
    while puller.wants.to_go or not rounds:
        rounds += 1
        for peer, (nonce, asked) in puller.ask([BOB]).items():
            puller.heads |= dict.fromkeys(asked, 3)
            puller.end(nonce, peer)

    assert rounds == 10_000 // LOGS_PER_PULL
    assert puller.looks <= 20 * 10_000


def test_an_answer_that_comes_too_late_is_taken_all_the_same() -> None:
    """Else a peer whose way takes longer than the timeout could never bring anything."""
    puller = Puller()
    puller.wants.add(log(1), 5, ANN, 0)
    nonce, _ = puller.ask()[ANN]
    puller.sleep()

    assert puller.nonces == []
    assert puller.wants.heard(nonce, ANN, puller.now) == 5
    assert puller.wants.heard(nonce, BOB, puller.now) is None
    assert puller.wants.heard(77, ANN, puller.now) is None


def test_the_pulls_that_were_given_up_are_not_remembered_for_ever() -> None:
    """The first of many is answered in vain."""
    puller = Puller()
    puller.wants.add(log(1), 5, ANN, 0)
    nonce, _ = puller.ask()[ANN]
    for number in range(4 * LATE_MAX):
        puller.sleep()
        puller.wants.add(log(2 + number), 5, number.to_bytes(8, "big"), puller.now)
        puller.ask()
    assert puller.wants.heard(nonce, ANN, puller.now) is None
