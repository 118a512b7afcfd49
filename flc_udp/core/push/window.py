"""The window of a link: how many bytes of rumors may be on their way over it.

    pusher ── rumor(at) … ──▶ peer     pusher ◀── taken(at, came, room) ── peer, every few datagrams

Rules. `at` counts the bytes that a node has pushed, over all links. A peer says how far it has
read; what it has not read is in flight. Beyond the window rumors wait here, and beyond a bound they
are dropped: the peer is told what there is, as over a lazy link, and pulls when it can. So a peer
that is slow for a moment is waited for, and one that stands still costs nobody more than the bound.
While rumors wait and no answer comes, the peer is asked for one, by a rumor without blocks. What is
never acknowledged counts as lost after a while.

The window follows what the peer takes. While it is used, it grows as long as acknowledgments come
soon, shrinks while they come late (LEDBAT, RFC 6817), and halves when bytes were lost on the way.
It is never larger than the room that the peer grants: its share of the buffer in which datagrams
wait for the peer, which all that push to the peer divide among themselves.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.units import MS_US, SECOND_US, Micros
from flc_udp.wire.packets import Rumor

BUFFER_BYTES = 212_992
"""The datagrams that wait for a node may have this many bytes, where nobody says otherwise. It is
the receive buffer that Linux gives to whoever asks for one."""

FIRST_BYTES = 65_536
"""The window of a new link."""

LEAST_BYTES = 32_768
"""No window is smaller."""

STEP_BYTES = 8_192
"""A window that is used grows by at most this, each time that all of it was acknowledged."""

TARGET_US = 50 * MS_US
"""The window grows while bytes wait for less than this before the peer reads them."""

BASE_FOR_US = 60 * SECOND_US
"""The shortest way to the peer and back is measured anew after this time."""

REORDERED_BYTES = 4_096
"""So many bytes may still be on their way when later ones have come. More are lost."""

TAKEN_BYTES = 8_192
"""A peer says how far it has read after this many bytes. A window holds four times as many."""

WAITING_BYTES_MAX = 262_144
"""When more than this waits for the window to open, all of it is dropped."""

ASK_AFTER_US = 50 * MS_US
"""While rumors wait and no acknowledgment comes, the peer is asked this often how far it has read.
Perhaps the last one was lost: a peer that nothing is pushed to sends no other."""

LOST_AFTER_US = SECOND_US
"""What was pushed longer ago is in flight no more."""

ANSWERS_WITHIN_US = 300 * MS_US
"""A peer that is only slow says within this time how far it has read."""

BEHIND_PAUSE_US = 200 * MS_US
"""After rumors were dropped, the peer is only told what there is for this long."""


class _Pushed(NamedTuple):
    at: int
    size: int
    when: int


@dataclass(slots=True)
class PushWindow:
    """What is in flight over one link, and how much may be."""

    limit: int = FIRST_BYTES
    """The window, in bytes."""
    in_flight: int = 0
    """Bytes."""
    waiting: int = 0
    """Bytes that wait for the window to open."""
    _waiting: deque[tuple[Rumor, int]] = field(default_factory=deque)
    _pushed: deque[_Pushed] = field(default_factory=deque)
    _behind_until: int = 0
    _answered_at: int = -ANSWERS_WITHIN_US
    _asked_at: int = 0
    _base_us: int = SECOND_US
    """The shortest time in which bytes were acknowledged."""
    _base_until: int = 0
    _acknowledged: int = 0
    _came: int = 0
    _missing: int = 0
    """The most bytes that were ever acknowledged and had not come."""
    _halved_at: int = -TARGET_US

    def push(self, rumor: Rumor, size: int, now: Micros) -> bool:
        """A rumor of this many bytes is to be pushed. False: not now, or not at all."""
        if self.is_behind(now):
            return False
        if not self._waiting and self._begin(rumor, size, now):
            return True
        self._waiting.append((rumor, size))
        self.waiting += size
        if self.waiting > WAITING_BYTES_MAX:
            self.drop_waiting()
            self._behind_until = now + BEHIND_PAUSE_US
        return False

    def drop_waiting(self) -> None:
        """What waits is not pushed at all."""
        self._waiting.clear()
        self.waiting = 0

    def take_waiting(self, now: Micros) -> list[Rumor]:
        """The rumors that waited, and for which there is room now. If there is none, a question."""
        rumors: list[Rumor] = []
        while self._waiting and self._begin(*self._waiting[0], now):
            rumor, size = self._waiting.popleft()
            self.waiting -= size
            rumors.append(rumor)
        if self._waiting and now - max(self._answered_at, self._asked_at) >= ASK_AFTER_US:
            self._asked_at = now
            rumors.append(Rumor(False, self._pushed[-1].at, ()))
        return rumors

    def _begin(self, rumor: Rumor, size: int, now: Micros) -> bool:
        """From now on these bytes are in flight, if there is room for them."""
        while self._pushed and now - self._pushed[0].when > LOST_AFTER_US:
            self.in_flight -= self._pushed.popleft().size
        if self.in_flight and self.in_flight + size > self.limit:
            return False
        self._pushed.append(_Pushed(rumor.at, size, now))
        self.in_flight += size
        return True

    def taken(self, at: int, came: int, room: int, now: Micros) -> tuple[int, int]:
        """The peer has read up to byte `at`, and `came` bytes came there over this link by then.

        It grants the link this much `room`. Return how many bytes it acknowledges, and how many of
        these were lost.
        """
        self._answered_at = now
        was, delay_us = self.in_flight, 0
        while self._pushed and self._pushed[0].at <= at:
            pushed = self._pushed.popleft()
            self.in_flight -= pushed.size
            delay_us = now - pushed.when
        acknowledged, lost = was - self.in_flight, 0
        if acknowledged:
            self._note_delay(delay_us, now)
            lost = self._note_lost(acknowledged, came)
            if lost:
                if now - self._halved_at > TARGET_US:
                    self._halved_at = now
                    self.limit //= 2
            elif 2 * was >= self.limit:
                off = min(TARGET_US - (delay_us - self._base_us), TARGET_US)
                self.limit += STEP_BYTES * acknowledged * off // (self.limit * TARGET_US)
        self.limit = max(min(self.limit, room), LEAST_BYTES)
        return acknowledged, lost

    def _note_delay(self, delay_us: int, now: Micros) -> None:
        if now >= self._base_until:
            self._base_us, self._base_until = delay_us, now + BASE_FOR_US
        self._base_us = min(self._base_us, delay_us)

    def _note_lost(self, acknowledged: int, came: int) -> int:
        """How much more is missing now than ever before. Bytes that were overtaken come later."""
        # More may have come: some of it twice, or in answers, or so late that it counted as lost.
        self._acknowledged = max(self._acknowledged + acknowledged, came)
        if came < self._came:  # The peer counts anew.
            self._acknowledged, self._missing = came, 0
        self._came = came
        missing = self._acknowledged - came
        if missing <= self._missing + REORDERED_BYTES:
            return 0
        lost, self._missing = missing - self._missing, missing
        return lost

    def answers(self, now: Micros) -> bool:
        """Whether the peer lately said how far it has read. One that stands still does not."""
        return now - self._answered_at < ANSWERS_WITHIN_US

    def on_the_way(self, now: Micros) -> int:
        """Bytes that were pushed, are not acknowledged, and are not old enough to be lost."""
        return sum(pushed.size for pushed in self._pushed if now - pushed.when <= LOST_AFTER_US)

    def is_behind(self, now: Micros) -> bool:
        """Whether rumors were dropped lately, so that the peer has to be told of what there is."""
        return now < self._behind_until


@dataclass(slots=True)
class Reading:
    """What came over one link, at its other end."""

    _came: int = 0
    """Bytes."""
    _at: int = 0
    """The end of the part that is being read. What was pushed before it was read."""
    _read: tuple[int, int] = (0, 0)
    """(at, came): how far all was read, and how much had come by then."""
    _untold: int = 0

    def take(self, at: int, size: int) -> tuple[int, int] | None:
        """This many bytes came, of the part that ends at `at`.

        Return (at, came) if the pusher is to be told how far they were read. It asks by no bytes of
        the part that it began last.
        """
        is_asked = at == self._at and not size
        if at > self._at:
            self._read, self._at = (self._at, self._came), at
        self.add(size)
        if self._untold < TAKEN_BYTES and not is_asked:
            return None
        self._untold = 0
        return self._read

    def add(self, size: int) -> None:
        """This many bytes came, of whatever part."""
        self._came += size
        self._untold += size
