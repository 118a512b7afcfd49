"""Catch-up: windows of stamps, of several peers, whatever is lost and whoever dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flc_udp.config import BLOCK_BYTES_MAX, PULL_BYTES_LEAST, STAMP_LIMIT
from flc_udp.core.repair import catch_up as module
from flc_udp.core.repair.catch_up import PEERS_MAX, WINDOWS_PER_PEER, CatchUp
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL
from flc_udp.core.repair.windows import TRIES_MAX, StampWindow
from flc_udp.model.block import NO_PARENT, Block, Origin, decode, pack_body, write
from flc_udp.model.clocks import STAMP_WALL_SHIFT, next_stamp
from flc_udp.model.dots import Spans
from flc_udp.model.units import NEVER
from flc_udp.wire.packets import Replay, ReplayEnd
from tests.model.kept import KeptInList
from tests.model.stories import last_dot

TIMEOUT_US = 400_000
CREDIT_BYTES_MAX = 131_072
ANN, BOB, CYD, DAN = PEERS = [name.encode().ljust(8, b"-") for name in ("ann", "bob", "cyd", "dan")]
STEPS_MAX = 20_000
ROUNDS_MAX = 10


def many(logs: int, blocks: int, seed: int = 0, wall: int = 1_000_000) -> list[Block]:
    """A history of one room by many logs, each block after the one before it: 1 to 3 messages."""
    chance = Random(seed)
    heads: dict[bytes, Block] = {}
    said: list[Block] = []
    for _ in range(blocks):
        wall += chance.randrange(20)
        log = chance.randrange(1, logs + 1).to_bytes(8, "big")
        head, cause = heads.get(log), said[-1] if said else None
        block = write(
            log=log,
            first=head.last + 1 if head else 1,
            room="lobby",
            author="ann",
            wall=wall,
            stamp=next_stamp(wall, head.stamp if head else 0, cause.stamp if cause else 0),
            causes=(last_dot(cause),) if cause and cause.log != log else (),
            parent=head.hash if head else NO_PARENT,
            bodies=[
                pack_body("x" * chance.randrange(20, 80)) for _ in range(chance.randrange(1, 4))
            ],
            origin=None if head else Origin(log, "ann"),
        )
        heads[log] = block
        said.append(block)
    return said


class Puller:
    """A node that holds nothing of a history, and peers that hold parts of it."""

    def __init__(self, history: Sequence[Block], *, loss: float = 0, seed: int = 0) -> None:
        self.catch_up = CatchUp(TIMEOUT_US, CREDIT_BYTES_MAX)
        self.held = {block.log: Spans() for block in history}
        self.upper = {block.log: block.last for block in history}
        self.holds = {peer: KeptInList(list(history)) for peer in PEERS}
        self.now = 0
        self.asked: Counter[bytes] = Counter()
        self.bytes = 0
        self.at_once = 0
        self.early_bytes = 0
        self.came: list[int] = []
        self.released: dict[bytes, None] = {}
        self.dead: set[bytes] = set()
        self._loss = loss
        self._chance = Random(seed)
        self._nonce = 0

    def begin(self) -> None:
        """Everything is missing."""
        self.catch_up.take_over(dict(self.upper), self.now)

    def missing(self, log: bytes) -> Spans:
        """Seqs of a log."""
        return Spans([(1, self.upper[log])]).minus(self.held[log])

    def run(self, steps: int = STEPS_MAX) -> None:
        """Until nothing is under way."""
        for _ in range(steps):
            if not self.catch_up.logs:
                return
            self.ask()
            self.take()
            self.answer()
            self.released |= dict.fromkeys(self.catch_up.take_released())
        assert not self.catch_up.logs, "it does not end"

    def run_all(self) -> None:
        """As wants do: what was let go, because too much was lost, is begun with again."""
        for _ in range(ROUNDS_MAX):
            missing = {log: spans.count() for log in self.upper if (spans := self.missing(log))}
            if not missing:
                return
            self.catch_up.take_over(missing, self.now)
            self.run()

    def ask(self) -> None:
        """All that may be asked for now."""
        take = self.catch_up.take
        while window := take(self.now, lambda _: PEERS, is_busy=False, is_full=False):
            if not any(self.missing(log) for log in window.logs):
                self.catch_up.stretches.nothing_missing(window)
                continue
            self._nonce += 1
            self.asked[window.peer] += 1
            self.catch_up.asked(self._nonce, window, self.now, in_pieces=False)
        busy = Counter(window.peer for window in self.catch_up.pulls.values())
        assert len(busy) <= PEERS_MAX
        assert max(busy.values(), default=0) <= WINDOWS_PER_PEER
        self.at_once = max(self.at_once, len(busy))

    def answer(self) -> None:
        """One pull under way comes to its end, if its peer lives; else time goes by."""
        answered = [n for n, w in self.catch_up.pulls.items() if w.peer not in self.dead]
        if not answered:
            self.now += TIMEOUT_US
            self.catch_up.close_silent(self.now)
            return
        nonce = self._chance.choice(answered)
        window = self.catch_up.pulls[nonce]
        self.now += 1_000
        kept = self.holds[window.peer]
        spans = [(log, *span) for log in window.logs for span in self.missing(log)]
        encoded, following = kept.replay(
            spans, self.catch_up.pace.credit_bytes, window.after, window.below
        )
        for one in encoded:
            self.bytes += len(one)
            if self._chance.random() < self._loss:
                continue
            self.catch_up.heard(Replay(nonce, (one,)), window.peer, self.now)
            self.take()
        end = ReplayEnd(nonce, len(encoded), following, 0, self._lacks(window, spans))
        if self._chance.random() >= self._loss:
            self.catch_up.ended(end, window.peer, self.now)
        else:
            window.deadline = self.now  # The others are answered before this one's time is out.
            self.catch_up.close_silent(self.now)
        self.take()

    def take(self) -> None:
        """Blocks whose turn it is."""
        self.early_bytes = max(self.early_bytes, self.catch_up.early_bytes)
        for block in map(decode, self.catch_up.take_ready(self.now)):
            self.held[block.log].add(block.first, block.last)
            self.came.append(block.stamp)

    def _lacks(self, window: StampWindow, spans: list[tuple[bytes, int, int]]) -> tuple[bytes, ...]:
        heads = {block.log: block for block in self.holds[window.peer].blocks}
        return tuple(
            log
            for log, _, high in spans
            if log not in heads or (heads[log].last < high and heads[log].stamp < window.below)
        )


def test_everything_comes_once_and_in_order() -> None:
    """Of several peers at once; nothing is sent twice, and nothing is ahead of what it needs."""
    history = many(logs=20, blocks=6_000)
    puller = Puller(history)
    puller.begin()
    puller.run()

    assert not any(map(puller.missing, puller.upper))
    assert puller.at_once == PEERS_MAX
    assert puller.bytes == sum(len(block.encoded) for block in history)
    assert puller.came == [block.stamp for block in history]


@pytest.mark.parametrize("loss", [0.02, 0.25, 0.5])
def test_what_is_lost_is_asked_for_again(loss: float) -> None:
    """Of blocks, and of the ends that tell of them; what came is not sent again."""
    history = many(logs=5, blocks=1_500)
    puller = Puller(history, loss=loss)
    puller.run_all()

    assert not any(map(puller.missing, puller.upper))
    assert puller.bytes < (1 + 4 * loss) * sum(len(block.encoded) for block in history)


def test_the_credit_follows_what_is_lost() -> None:
    """It halves where datagrams are lost, and grows where none are."""
    lossless, lossy = Puller(many(3, 3_000)), Puller(many(3, 1_000), loss=0.3)
    for puller in (lossless, lossy):
        puller.begin()
        puller.run()

    assert lossless.catch_up.pace.credit_bytes == CREDIT_BYTES_MAX
    assert lossy.catch_up.pace.credit_bytes < 4 * PULL_BYTES_LEAST


def test_it_survives_the_death_of_any_peer() -> None:
    """Whoever is silent costs a timeout, and others are asked for the same."""
    puller = Puller(many(logs=10, blocks=4_000))
    puller.begin()
    for _ in range(5):
        puller.ask()
        puller.answer()
    puller.dead = {puller.catch_up.pulls[min(puller.catch_up.pulls)].peer}
    before = puller.asked.copy()
    puller.run()

    assert not any(map(puller.missing, puller.upper))
    (dead,) = puller.dead
    assert puller.asked[dead] - before[dead] <= WINDOWS_PER_PEER


def test_parts_that_only_one_holds_are_found_with_it() -> None:
    """Who lacks some of the logs says so, and others are asked for these."""
    history = many(logs=6, blocks=2_000)
    logs = list(dict.fromkeys(block.log for block in history))
    puller = Puller(history)
    for number, peer in enumerate(PEERS):
        mine = {log for at, log in enumerate(logs) if at % len(PEERS) == number}
        puller.holds[peer] = KeptInList([block for block in history if block.log in mine])
    puller.begin()
    puller.run()

    assert not any(map(puller.missing, puller.upper))


def test_what_nobody_holds_holds_up_nothing_else() -> None:
    """The log it is of is let go, and all the rest comes."""
    history = many(logs=6, blocks=2_000)
    puller = Puller(history)
    lost = history[0].log
    puller.upper[lost] += 1_000_000
    puller.begin()
    puller.run()

    held = {log: seqs.count() for log, seqs in puller.held.items()}
    assert all(held[log] == puller.upper[log] for log in held if log != lost)
    assert lost in puller.released


def test_ten_thousand_logs_go_in_groups() -> None:
    """More logs than a datagram can name are asked for in parts of each stretch."""
    history = many(logs=3 * LOGS_PER_PULL, blocks=3_000)
    puller = Puller(history)
    puller.begin()
    puller.run()

    assert not any(map(puller.missing, puller.upper))
    assert puller.bytes == sum(len(block.encoded) for block in history)


def test_a_silence_of_years_costs_a_few_pulls() -> None:
    """Stamps in which nothing was said are skipped, not stepped through."""
    early, late = many(2, 400), many(4, 800, wall=1_000_000 + 10 * 365 * 86_400_000)
    known = {block.log for block in early}
    puller = Puller([*early, *(block for block in late if block.log not in known)])
    puller.begin()
    puller.run()

    assert not any(map(puller.missing, puller.upper))
    assert puller.asked.total() < 40


def test_a_peer_that_sends_the_same_in_vain_is_left() -> None:
    """Pieces that never become a block do not keep a window for ever."""
    catch_up = CatchUp(TIMEOUT_US, CREDIT_BYTES_MAX)
    catch_up.take_over({b"log-----": 5}, 0)
    peers = []
    for nonce in range(3 * TRIES_MAX):
        window = catch_up.take(0, lambda _: [ANN, BOB], is_busy=False, is_full=False)
        if window is None:
            break
        peers.append(window.peer)
        catch_up.asked(nonce, window, 0, in_pieces=False)
        catch_up.heard_piece(window.peer, 0)
        catch_up.ended(ReplayEnd(nonce, 0, 1 << STAMP_WALL_SHIFT, 0, ()), window.peer, 0)

    assert {ANN, BOB} == set(peers)
    assert list(catch_up.take_released()) == [b"log-----"]


def test_what_comes_before_its_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one peer is silent about a window, the others do not go on without an end."""
    monkeypatch.setattr(module, "EARLY_BYTES_MAX", 65_536)
    puller = Puller(many(logs=4, blocks=12_000))
    puller.begin()
    for _ in range(10):
        puller.ask()
        puller.answer()
    puller.early_bytes = 0
    puller.dead = {min(puller.catch_up.pulls.values(), key=lambda window: window.after).peer}
    puller.run()

    assert not any(map(puller.missing, puller.upper))
    assert puller.early_bytes < 65_536 + PEERS_MAX * WINDOWS_PER_PEER * CREDIT_BYTES_MAX


def test_while_nothing_is_taken_no_more_is_laid_aside_than_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk stands still, or a base is being taken: all that comes waits here, for minutes."""
    monkeypatch.setattr(module, "EARLY_BYTES_MAX", 65_536)
    history = many(logs=4, blocks=12_000)
    puller = Puller(history)
    puller.begin()
    monkeypatch.setattr(puller, "take", lambda: None)
    for _ in range(100):
        puller.ask()
        puller.answer()

    assert puller.catch_up.early_bytes < 65_536 + PEERS_MAX * WINDOWS_PER_PEER * CREDIT_BYTES_MAX
    monkeypatch.undo()
    puller.take()
    puller.run_all()
    assert not any(map(puller.missing, puller.upper))


def test_a_peer_cannot_send_without_an_end() -> None:
    """It is asked for a credit; what it sends far beyond that is not kept."""
    catch_up = CatchUp(TIMEOUT_US, CREDIT_BYTES_MAX)
    catch_up.take_over({b"log-----": 5}, 0)
    window = catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=False)
    assert window is not None
    catch_up.asked(1, window, 0, in_pieces=False)
    part = Replay(1, tuple(block.encoded for block in many(1, 100)))
    heard = [catch_up.heard(part, ANN, 0) for _ in range(1_000)]

    assert not heard[-1]
    assert sum(map(len, window.laid_aside)) < 2 * BLOCK_BYTES_MAX


@pytest.mark.parametrize("is_full", [False, True])
def test_where_all_logs_are_let_go_nothing_is_under_way_any_more(is_full: bool) -> None:
    """A pull of one that is left over would be due for ever, and nobody would close it."""
    catch_up = CatchUp(TIMEOUT_US, CREDIT_BYTES_MAX)
    catch_up.take_over({b"log-----": 9_000}, 0)
    probe = catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=False)
    assert probe is not None
    catch_up.asked(1, probe, 0, in_pieces=False)
    sample = many(1, 1)[0]
    catch_up.heard(Replay(1, (sample.encoded,)), ANN, 0)
    catch_up.ended(ReplayEnd(1, 1, sample.stamp + 1_000, 0, ()), ANN, 0)
    catch_up.take_ready(0)
    for nonce in (2, 3):
        window = catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=False)
        assert window is not None
        catch_up.asked(nonce, window, 0, in_pieces=False)
    catch_up.ended(ReplayEnd(2, 0, STAMP_LIMIT, 0, (b"log-----",)), ANN, 0)
    assert catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=is_full) is None

    assert list(catch_up.take_released()) == [b"log-----"]
    assert catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=False) is None
    assert (catch_up.wake_at, catch_up.pulls, catch_up.early_bytes) == (NEVER, {}, 0)
    catch_up.take_over({b"log-----": 5}, 0)
    assert catch_up.take(0, lambda _: [ANN], is_busy=False, is_full=False) is not None


@given(
    st.integers(1, 60),
    st.integers(1, 300),
    st.floats(0, 0.6),
    st.sets(st.sampled_from(PEERS), max_size=3),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_it_always_ends_and_what_somebody_holds_comes(
    logs: int, blocks: int, loss: float, dead: set[bytes], seed: int
) -> None:
    """Whatever is lost and whoever is dead, as long as one lives."""
    puller = Puller(many(logs, blocks, seed), loss=loss, seed=seed)
    puller.dead = dead
    puller.run_all()

    assert not any(map(puller.missing, puller.upper))


def test_logs_that_are_taken_over_later_are_asked_for_from_their_beginning() -> None:
    """Whatever was asked for by then: what comes of the others waits for what they lack."""
    first, second = (1).to_bytes(8, "big"), (2).to_bytes(8, "big")
    history = [block for block in many(2, 400) if block.log == first]
    catch_up = CatchUp(TIMEOUT_US, CREDIT_BYTES_MAX)
    catch_up.take_over({first: len(history)}, 0)

    def take() -> StampWindow:
        window = catch_up.take(0, lambda _log: [ANN, BOB, CYD], is_busy=False, is_full=False)
        assert window is not None
        return window

    probe = take()
    catch_up.asked(1, probe, 0, in_pieces=False)
    begun = history[: len(history) // 2]
    catch_up.heard(Replay(1, tuple(block.encoded for block in begun)), probe.peer, 0)
    catch_up.ended(ReplayEnd(1, len(begun), history[len(begun)].stamp, 0, ()), probe.peer, 0)
    for nonce in (2, 3):
        catch_up.asked(nonce, take(), 0, in_pieces=False)
    catch_up.take_over({second: 200}, 0)
    windows = [take() for _ in range(2)]

    assert [window.after for window in windows if second in window.logs][:1] == [0]
