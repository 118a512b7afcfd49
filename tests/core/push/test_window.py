"""A link's window: what is in flight and what waits is bounded, whatever the peer does.

The window follows what the peer takes; nothing waits for ever, and the order is kept.
"""

from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.liveness.members import Member, alive_row
from flc_udp.core.push.links import Links
from flc_udp.core.push.rumors import Rumors
from flc_udp.core.push.window import (
    ANSWERS_WITHIN_US,
    ASK_AFTER_US,
    BEHIND_PAUSE_US,
    BUFFER_BYTES,
    FIRST_BYTES,
    LEAST_BYTES,
    LOST_AFTER_US,
    REORDERED_BYTES,
    STEP_BYTES,
    TAKEN_BYTES,
    TARGET_US,
    WAITING_BYTES_MAX,
    PushWindow,
    Reading,
)
from flc_udp.model.address import Address
from flc_udp.model.units import MS_US
from flc_udp.wire.packets import Have, Rumor, Taken
from flc_udp.wire.rows import MemberRow
from tests.model.stories import Story

BOB, CYD = Address("10.0.0.1", 1), Address("10.0.0.2", 1)
PART = 8_192
NUMBER_MAX = (1 << 64) - 1


def rumor(at: int) -> Rumor:
    """One whose blocks do not matter here."""
    return Rumor(False, at, ())


def fill(window: PushWindow, parts: int, now: int = 0) -> list[bool]:
    """Push so many parts, which end at 8 kB, 16 kB, and so on."""
    return [window.push(rumor(PART * n), PART, now) for n in range(1, parts + 1)]


def ends(rumors: list[Rumor]) -> list[int]:
    """Which parts these are."""
    return [found.at // PART for found in rumors]


class TestWaiting:
    def test_beyond_it_rumors_wait_in_order(self) -> None:
        """As much is pushed as the peer has read; later rumors never overtake those that wait."""
        window = PushWindow()
        assert fill(window, 11) == [True] * 8 + [False] * 3
        assert (window.in_flight, window.waiting) == (8 * PART, 3 * PART)
        assert not window.is_behind(0)

        window.taken(2 * PART, 2 * PART, FIRST_BYTES, 0)

        assert not window.push(rumor(12 * PART), 1, 0)
        assert ends(window.take_waiting(0)) == [9, 10]
        assert ends(window.take_waiting(0)) == []

        window.taken(4 * PART, 4 * PART, FIRST_BYTES, 0)

        assert ends(window.take_waiting(0)) == [11, 12]
        assert window.waiting == 0

    def test_one_block_always_fits_an_empty_window(self) -> None:
        """However large it is."""
        assert PushWindow().push(rumor(1), 10 * FIRST_BYTES, 0)

    def test_one_who_stands_still_costs_no_more_than_the_bound(self) -> None:
        """All that waits is dropped at once, and for a while he is only told what there is."""
        window = PushWindow()
        parts = (FIRST_BYTES + WAITING_BYTES_MAX) // PART
        fill(window, parts)
        assert (window.waiting, window.is_behind(0)) == (WAITING_BYTES_MAX, False)

        assert not window.push(rumor(PART * (parts + 1)), PART, 0)
        assert (window.waiting, window.is_behind(0)) == (0, True)

        window.taken(NUMBER_MAX, FIRST_BYTES, FIRST_BYTES, 0)
        assert not window.push(rumor(PART * (parts + 2)), PART, BEHIND_PAUSE_US - 1)
        assert window.push(rumor(PART * (parts + 3)), PART, BEHIND_PAUSE_US)

    def test_who_is_silent_while_something_waits_is_asked_how_far_he_has_read(self) -> None:
        """His last answer may have been lost, and what he does not hear he does not answer."""
        window = PushWindow()
        fill(window, 11)
        found = [window.take_waiting(now) for now in range(0, 3 * ASK_AFTER_US, ASK_AFTER_US // 5)]

        assert [rumors for rumors in found if rumors] == [[rumor(8 * PART)]] * 2

    def test_what_is_never_acknowledged_is_lost_after_a_while(self) -> None:
        """Such a peer gets a window a second and no more, and nothing waits for longer."""
        window, pushed = PushWindow(), set[int]()
        for n in range(1, 1_000):
            now = n * LOST_AFTER_US // 100
            if window.push(rumor(PART * n), PART, now):
                pushed.add(n)
            pushed.update(ends(window.take_waiting(now)))  # Questions are about what was pushed.

        assert 8 * 9 <= len(pushed) <= 8 * 11

    def test_a_link_that_goes_lazy_keeps_nothing_waiting(self) -> None:
        """Its peer has other links, or it would not have been pruned."""
        links = linked(row(1))
        for _ in range(10):
            links.push((bytes(PART),), (), 0, receipt=False)
        assert links.is_waiting

        links.prune(row(1).id)

        assert not links.is_waiting
        assert links.take_waiting(LOST_AFTER_US + 1) == []


class TestSize:
    """The window follows what the peer takes."""

    @pytest.mark.parametrize(
        ("late_us", "room", "least", "most"),
        [
            (0, 1 << 20, 500_000, 1 << 20),  # As soon as ever: it grows, up to the room.
            (0, 100_000, 100_000, 100_000),
            (TARGET_US // 2, 1 << 20, 200_000, 1 << 20),
            (TARGET_US, 1 << 20, FIRST_BYTES, FIRST_BYTES),
            (4 * TARGET_US, 1 << 20, LEAST_BYTES, LEAST_BYTES),
            (0, 0, LEAST_BYTES, LEAST_BYTES),  # Whatever the peer grants, this is never too much.
        ],
    )
    def test_it_grows_while_acknowledgments_come_soon(
        self, late_us: int, room: int, least: int, most: int
    ) -> None:
        """And shrinks while they come late, always within the room and the least."""
        window = PushWindow()
        at = self.round(window, 0, 0, 10 * MS_US, room)
        limit = window.limit = FIRST_BYTES if room > FIRST_BYTES else window.limit
        for n in range(1, 100):
            at = self.round(window, at, n * LOST_AFTER_US // 2, 10 * MS_US + late_us, room)
            assert window.limit - limit <= STEP_BYTES
            limit = window.limit

        assert least <= window.limit <= most

    def round(self, window: PushWindow, at: int, now: int, delay_us: int, room: int) -> int:
        """All of the window is used and acknowledged at once. Return how far."""
        while window.in_flight + 4_096 <= window.limit:
            at += 4_096
            assert window.push(rumor(at), 4_096, now)
        window.taken(at, at, room, now + delay_us)
        return at

    def test_one_that_is_not_used_stays_as_it_is(self) -> None:
        """What a peer could take is not known by what is a little."""
        window = PushWindow()
        for n in range(1_000, 1_000_000, 1_000):
            window.push(rumor(n), 1_000, n)
            window.taken(n, n, 1 << 20, n)

        assert window.limit == FIRST_BYTES

    def test_late_is_later_than_on_the_shortest_way_of_late(self) -> None:
        """The first answers may have been late, too; and a longer way is believed after a while."""
        window, at, now = PushWindow(), 0, 0
        for delay_us, rounds, is_less in [
            (200 * MS_US, 10, False),
            (10 * MS_US, 3, False),
            (200 * MS_US, 10, True),
            (200 * MS_US, 150, True),
            (200 * MS_US, 40, False),
        ]:
            was = window.limit
            for _ in range(rounds):
                now += 300 * MS_US
                at = self.round(window, at, now, delay_us, 1 << 20)
            assert (window.limit < was or window.limit == LEAST_BYTES) == is_less

    def test_what_was_lost_halves_it_once_in_a_while(self) -> None:
        """A burst of losses is one sign of one full buffer."""
        window = PushWindow(limit=400_000)
        fill(window, 40)
        limits = []
        for n in range(1, 9):
            window.taken(5 * n * PART, 2 * n * PART, 1 << 20, n * TARGET_US // 4)
            limits.append(window.limit)

        assert limits[:5] == [200_000] * 5
        assert limits[5:] == [100_000] * 3

    @pytest.mark.parametrize(
        ("came", "lost"),
        [
            ((2, 4, 6), (0, 0, 0)),
            ((1, 3, 6), (PART, 0, 0)),  # Overtaken by more than a few datagrams: once.
            ((1, 2, 3), (PART, PART, PART)),
            ((2, 3, 4), (0, PART, PART)),
            ((3, 5, 7), (0, 0, 0)),  # Some came twice, or in answers: that hides no later loss.
            ((9, 10, 11), (0, PART, PART)),
            ((0, 2, 4), (2 * PART, 0, 0)),
            ((2, 1, 3), (0, 0, 0)),  # The peer counts anew.
            ((2, 1, 2), (0, 0, PART)),
        ],
    )
    def test_what_did_not_come_is_lost_once(
        self, came: tuple[int, ...], lost: tuple[int, ...]
    ) -> None:
        """Of two parts that are acknowledged at a time, and of so many parts that came by then."""
        window = PushWindow()
        fill(window, 6)
        found = [
            window.taken(2 * n * PART, came * PART, FIRST_BYTES, 0)[1]
            for n, came in enumerate(came, 1)
        ]

        assert tuple(found) == lost

    def test_a_few_datagrams_that_were_overtaken_are_no_loss(self) -> None:
        """Up to what is on its way for a moment."""
        window = PushWindow()
        fill(window, 4)

        assert window.taken(2 * PART, 2 * PART - REORDERED_BYTES, FIRST_BYTES, 0)[1] == 0
        assert window.taken(3 * PART, 3 * PART - REORDERED_BYTES - 1, FIRST_BYTES, 0)[1] > 0


class TestReading:
    def test_a_peer_answers_every_few_datagrams(self) -> None:
        """A lone message is not answered; a stream is, at least four times a window."""
        reading = Reading()
        told = [reading.take(TAKEN_BYTES // 4 * n, TAKEN_BYTES // 4) for n in range(1, 9)]

        assert told == [None] * 3 + [(6_144, 6_144)] + [None] * 3 + [(14_336, 14_336)]
        assert 4 * TAKEN_BYTES <= LEAST_BYTES

    def test_a_part_is_read_when_a_later_one_begins(self) -> None:
        """Before that nobody knows whether some of it was lost."""
        reading = Reading()
        assert reading.take(PART, PART) == (0, 0)
        assert reading.take(2 * PART, PART - 1) is None
        assert reading.take(2 * PART, PART) == (PART, PART)
        assert reading.take(PART, PART) == (PART, PART)  # Overtaken: it counts for what follows.
        assert reading.take(9 * PART, PART) == (2 * PART, 4 * PART - 1)

    def test_who_asks_is_answered(self) -> None:
        """By a rumor without blocks, of the last part: the last answer may have been lost."""
        reading = Reading()
        assert reading.take(PART, PART) == (0, 0)
        assert reading.take(2 * PART, 1) is None
        assert reading.take(2 * PART, 0) == (PART, PART)
        assert reading.take(3 * PART, 0) is None  # So begin pieces, or what is asked for was lost.
        assert reading.take(3 * PART, 0) == (2 * PART, PART + 1)

    def test_what_comes_in_pieces_counts_with_its_part(self) -> None:
        """A rumor without blocks says where they end."""
        reading = Reading()
        assert reading.take(PART, 0) is None
        reading.add(PART)
        assert reading.take(2 * PART, 0) == (PART, PART)


class Way:
    """A pusher and a peer, each in some run, and datagrams between them that take their time."""

    def __init__(self, seed: int, slow_us: int, loss: float) -> None:
        self.random = Random(seed)
        self.window, self.reading = PushWindow(), Reading()
        self.now = self.at = self.lost = 0
        self.began: list[int] = []
        """The ends of the parts, as their pushing began."""
        self._sizes: dict[int, int] = {}
        self.asked: list[int] = []
        """And as they were to be pushed."""
        self.loss = self._loss_back = loss
        """Of rumors."""
        self._slow_us = slow_us
        self._order = count()
        self._flying: list[tuple[int, int, Taken | tuple[int, int]]] = []

    def push(self, size: int) -> None:
        """A part is to be pushed, and goes in datagrams."""
        self.at += size
        self.asked.append(self.at)
        if self.window.push(rumor(self.at), size, self.now):
            self._send(self.at, size)
        self._sizes[self.at] = size

    def _send(self, at: int, size: int) -> None:
        self.began.append(at)
        for start in range(0, size, 1_300):
            self._fly((at, min(1_300, size - start)))

    def _fly(self, what: Taken | tuple[int, int]) -> None:
        if self.random.random() >= (self._loss_back if isinstance(what, Taken) else self.loss):
            late = self.now + self.random.randint(200, 200 + self._slow_us)
            heappush(self._flying, (late, next(self._order), what))

    def run(self, until: int) -> None:
        """Let time pass."""
        while self._flying and self._flying[0][0] <= until:
            self.now, _, what = heappop(self._flying)
            if isinstance(what, Taken):
                self.lost += self.window.taken(*what, self.now)[1]
            elif (read := self.reading.take(*what)) is not None:
                self._fly(Taken(*read, room=BUFFER_BYTES))
            self._look()
        self.now = until
        self._look()

    def _look(self) -> None:
        for waited in self.window.take_waiting(self.now):
            if self.began and waited.at <= self.began[-1]:
                self._fly((waited.at, 0))  # A question.
            else:
                self._send(waited.at, self._sizes[waited.at])
        self.check()

    def check(self) -> None:
        """What must always be so."""
        window = self.window
        assert 0 <= window.in_flight <= BUFFER_BYTES + 10_000
        assert 0 <= window.waiting <= WAITING_BYTES_MAX
        assert LEAST_BYTES <= window.limit <= BUFFER_BYTES
        assert self.began == sorted(self.began)

    def talk(self, parts: int, size: int, every_us: int) -> None:
        """So many parts are to be pushed, one after the other."""
        for _ in range(parts):
            self.push(size)
            self.run(self.now + every_us)

    def restart_peer(self) -> None:
        """It counts from nothing what comes."""
        self.reading = Reading()


@given(
    st.integers(0, 1 << 32),
    st.integers(1, 12_000),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.integers(0, 20_000),
)
def test_whatever_is_lost_all_is_pushed_in_order_or_dropped(
    seed: int, size: int, loss: float, every_us: int
) -> None:
    """Nothing waits once the peer had time; only what was beyond the bound is not pushed."""
    way = Way(seed, 3 * MS_US, loss)
    way.talk(60, size, every_us)
    way.run(way.now + (2 + WAITING_BYTES_MAX // LEAST_BYTES) * (LOST_AFTER_US + 1_000))
    for _ in range(2 + WAITING_BYTES_MAX // LEAST_BYTES):
        way.run(way.now + LOST_AFTER_US + 1)

    assert way.window.waiting == 0
    assert set(way.began) <= set(way.asked)
    assert way.began == way.asked or 60 * size > WAITING_BYTES_MAX


@given(st.integers(0, 1 << 32), st.integers(100, 5_000), st.integers(300, 3_000))
def test_what_is_overtaken_within_a_few_ms_is_no_loss(seed: int, size: int, every_us: int) -> None:
    """However much is pushed: at most what was once on its way at a time is ever taken for it."""
    way = Way(seed, 2 * MS_US, 0)
    way.talk(200, size, every_us)
    on_the_way = size * (2 + 2 * MS_US // every_us) + 1_300

    assert way.lost <= max(on_the_way, REORDERED_BYTES)
    assert way.lost == 0 or on_the_way > REORDERED_BYTES


@given(st.integers(0, 1 << 32), st.integers(500, 4_000))
def test_after_a_restart_of_the_peer_the_accounting_is_right_again(seed: int, size: int) -> None:
    """It counts from nothing; what is lost from then on is seen, and nothing else."""
    way = Way(seed, 100, 0)
    way.talk(100, size, 5_000)
    way.restart_peer()
    way.talk(100, size, 5_000)
    before = way.lost
    way.talk(200, size, 5_000)
    assert way.lost == before

    way.loss = 0.5
    way.talk(400, size, 5_000)
    assert way.lost > before


@given(st.integers(0, 1 << 32), st.integers(500, 4_000), st.integers(1, 1 << 40))
def test_a_window_that_is_new_at_one_end_is_right_too(seed: int, size: int, came: int) -> None:
    """The pusher took the peer for dead: it counts anew, and the peer goes on."""
    way = Way(seed, 100, 0)
    way.reading.add(came)
    way.talk(100, size, 5_000)
    assert way.lost == 0

    way.loss = 0.5
    way.talk(400, size, 5_000)
    assert way.lost > 0


numbers = st.sampled_from([0, 1, PART, 1 << 20, NUMBER_MAX]) | st.integers(0, NUMBER_MAX)


@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=20), st.integers(0, 1 << 32))
def test_absurd_acknowledgments_change_nothing_beyond_the_bounds(
    absurd: list[tuple[int, int, int]], seed: int
) -> None:
    """Huge and zero counts and rooms, amid honest traffic; after them all goes on as before."""
    way = Way(seed, 100, 0)
    for taken in absurd:
        way.talk(5, PART, MS_US)
        was = way.window.limit
        acknowledged, lost = way.window.taken(*taken, way.now)
        assert 0 <= lost <= acknowledged + REORDERED_BYTES
        assert way.window.limit <= was + STEP_BYTES
        way.check()
    way.run(way.now + LOST_AFTER_US)
    way.talk(20, PART, 20 * MS_US)
    before = way.lost
    way.talk(50, PART, 20 * MS_US)

    assert way.lost == before
    assert way.began == way.asked
    assert way.window.in_flight <= 4 * PART


def test_peers_that_push_to_one_share_what_it_reads() -> None:
    """Each grows while the others do, and none is left without a share."""
    pushers, rate_us_per_kb = 6, 200
    windows, buffer = [PushWindow() for _ in range(pushers)], BUFFER_BYTES // pushers
    ats, read, queue = [0] * pushers, [0] * pushers, list[tuple[int, int]]()
    readings = [Reading() for _ in range(pushers)]
    most = now = 0
    for n_read in range(20_000):
        now += rate_us_per_kb
        for n, window in enumerate(windows):
            while not window.waiting and window.push(rumor(ats[n] + 1_024), 1_024, now):
                ats[n] += 1_024
                queue.append((n, ats[n]))
            window.drop_waiting()
        most = max(most, len(queue) if n_read > 1_000 else 0)  # First windows are not granted yet.
        n, at = queue.pop(0)
        read[n] += 1
        if (taken := readings[n].take(at, 1_024)) is not None:
            windows[n].taken(*taken, buffer, now)

    assert sum(read) == 20_000
    assert max(read) <= 1.5 * min(read)
    assert most * 1_024 <= BUFFER_BYTES


def row(number: int, boot: int = 1) -> MemberRow:
    """A member."""
    return alive_row(bytes([number]) * 8, 1, Address(f"10.0.0.{number}", 1), "n", boot)


def linked(*rows: MemberRow, buffer_bytes: int = BUFFER_BYTES) -> Links:
    """A node that is linked to these."""
    links = Links(8, buffer_bytes)
    links.refill(b"me------", [Member(row, 0) for row in rows])
    return links


class TestLinks:
    def test_who_has_no_room_waits_and_then_is_told_what_there_is(self) -> None:
        """All others get the blocks; that one is told of them, as on a lazy link, and can pull."""
        links, rumors, story = linked(row(1), row(2)), Rumors(), Story()
        pushed: dict[Address, int] = {BOB: 0, CYD: 0}
        told: list[Address] = []
        for n in range(80):
            block = story.say("ann", body="x" * 6_000)
            rumors.push(block, None, None, receipt=False)
            rumors.have(block, None, 0)
            for send in rumors.take(links, 0):
                for to in send.to:
                    pushed[to] += sum(isinstance(packet, Rumor) for packet in send.packets)
            links.taken(row(1).id, Taken(1 << 40, n * 6_100, BUFFER_BYTES), 0)
            if n in {30, 79}:
                sends = rumors.take(links, 20 * MS_US)
                told = [to for s in sends if isinstance(s.packets[0], Have) for to in s.to]
                assert told == ([CYD] if n == 79 else [])

        assert pushed[BOB] == 80
        assert pushed[CYD] == FIRST_BYTES // 6_100

    def test_what_waits_is_looked_at_again_though_nothing_comes(self) -> None:
        """The acknowledgments may all be lost."""
        links, rumors, story = linked(row(1)), Rumors(), Story()
        for _ in range(12):
            rumors.push(story.say("ann", body="x" * 6_000), None, None, receipt=False)
        sent = rumors.take(links, 0)
        while rumors.wake_at <= 2 * LOST_AFTER_US:
            sent += rumors.take(links, rumors.wake_at)

        found = [packet for send in sent for packet in send.packets if isinstance(packet, Rumor)]
        assert [b for each in found for b in each.blocks] == [b.encoded for b in story.said]

    @pytest.mark.parametrize("peers", [1, 2, 5, 8])
    def test_all_that_push_here_divide_the_buffer(self, peers: int) -> None:
        """Each is granted its share."""
        links = linked(*map(row, range(1, peers + 1)), buffer_bytes=1 << 20)
        granted = [links.came(row(n).id, 1, TAKEN_BYTES) for n in range(1, peers + 1)]

        assert granted == [Taken(0, 0, (1 << 20) // peers)] * peers

    def test_who_is_not_linked_is_always_answered(self) -> None:
        """It may hold this node for linked: then nothing is taken for lost."""
        links = linked(row(1))
        window = PushWindow()
        for n in range(1, 20):
            window.push(rumor(n * PART), 1_000, 0)
            taken = links.came(row(2).id, n * PART, 1_000)
            assert taken is not None
            assert window.taken(*taken, 0) == (1_000, 0)

    def test_the_link_to_a_member_that_restarted_is_new(self) -> None:
        """It holds this node for linked eagerly, and counts anew what it pushes and what comes."""
        links = linked(row(1), row(2))
        links.prune(row(1).id)
        for n in (1, 2):
            links.came(row(n).id, 1 << 30, TAKEN_BYTES)
        links.refill(b"me------", [Member(row(1, boot=2), 0), Member(row(2), 0)])

        assert links.told(None, 0) == ()
        links.came(row(1).id, 5, 1)
        assert links.came(row(1).id, 9, TAKEN_BYTES) == Taken(5, 1, BUFFER_BYTES // 2)
        assert links.came(row(2).id, 9, TAKEN_BYTES) == Taken(0, 0, BUFFER_BYTES // 2)

    @pytest.mark.parametrize(
        ("peers", "slow", "silent", "room"),
        [
            (2, 0, 0, FIRST_BYTES),
            (2, 1, 0, FIRST_BYTES),  # It will catch up; the others need not wait for it.
            (2, 2, 0, -PART),
            (2, 1, 1, -PART),  # What a peer that stands still has no room for says nothing.
            (2, 0, 2, None),
            (1, 0, 1, None),
            (1, 1, 0, -PART),
            (4, 2, 0, FIRST_BYTES),
            (4, 3, 0, -PART),
        ],
    )
    def test_room_is_what_at_least_half_of_the_peers_have(
        self, peers: int, slow: int, silent: int, room: int | None
    ) -> None:
        """Of those that say how far they have read. What waits takes room, too."""
        rows = [row(n) for n in range(peers)]
        links, now = linked(*rows), ANSWERS_WITHIN_US
        for n in range(1, FIRST_BYTES // PART + 2):
            links.push((bytes(PART),), (), now, receipt=False)
            for each in rows[slow + silent :]:
                links.taken(each.id, Taken(n * PART, n * PART, FIRST_BYTES), now)
        for each in rows[:slow]:
            links.taken(each.id, Taken(0, 0, FIRST_BYTES), now)

        assert links.room(now) == room
        assert links.room(now + ANSWERS_WITHIN_US) is None
