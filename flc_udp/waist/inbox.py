"""The inbox: datagrams that came are opened once, and the core takes a part of them each turn.

Rules. Packets about liveness wait for nothing, however much else came. Of the others a turn takes a
bounded number of blocks, in the order they came, so the next probe and the next post never wait
long. The number of waiting datagrams and their bytes are bounded. Beyond that datagrams are dropped
and counted, and repair finds what was in them.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.units import Micros
from flc_udp.waist.flood import Flood
from flc_udp.waist.hearing import Hearing
from flc_udp.waist.sessions import Sessions
from flc_udp.wire.packets import LIVENESS_KINDS, Packet
from flc_udp.wire.seal import KEY_ID_AT, KEY_ID_BYTES

INBOX_MAX = 8_192
"""At most this many datagrams wait. Others are dropped here, as the kernel would do."""

INBOX_BYTES_MAX = 16 << 20
"""They have at most this many bytes together. Read, they may take several times as much. Datagrams
of 1,400 bytes do not come to this."""

OPENED_A_TURN = 2_048
"""A turn opens at most this many datagrams. Opening and reading one takes about 10 µs."""

BLOCKS_A_TURN = 1_024
"""A turn takes about this many blocks, dots or rows. Deciding a block takes about 13 µs. A packet
without any of them counts as one."""


class Received(NamedTuple):
    """One datagram that was opened and read."""

    packets: list[Packet]
    sender: NodeId
    source: Address
    size_bytes: int
    """The length of the datagram."""


class Inbox:
    """The datagrams that wait to be taken."""

    def __init__(
        self, sessions: Sessions, drops: Counter[Drop], counts: Counter[str], flood: Flood
    ) -> None:
        self.hearing = Hearing()
        self.flood = flood
        self._sessions = sessions
        self._drops = drops
        self._counts = counts
        self._sealed: deque[tuple[bytes, Address]] = deque()
        self._waiting: deque[Received] = deque()
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._sealed) + len(self._waiting)

    def add(self, datagram: bytes, source: Address) -> None:
        """One more datagram came."""
        if len(self) < INBOX_MAX and self.waiting_bytes + len(datagram) <= INBOX_BYTES_MAX:
            self._sealed.append((datagram, source))
            self.waiting_bytes += len(datagram)
        else:
            self._drops[Drop.INBOX_FULL] += 1

    def take(self, now: Micros) -> Iterator[Received]:
        """What this turn takes: everything about liveness, and as much of the rest as it may."""
        for _ in range(min(len(self._sealed), OPENED_A_TURN)):
            datagram, source = self._sealed.popleft()
            self.waiting_bytes -= len(datagram)
            received = self._open(datagram, source, now)
            if received is None:
                continue
            if LIVENESS_KINDS.isdisjoint(map(type, received.packets)):
                self._waiting.append(received)
                self.waiting_bytes += received.size_bytes
            else:
                key = datagram[KEY_ID_AT : KEY_ID_AT + KEY_ID_BYTES]
                self.hearing.heard(received.sender, key, now)
                yield received
        blocks = 0
        while self._waiting and blocks < BLOCKS_A_TURN:
            received = self._waiting.popleft()
            self.waiting_bytes -= received.size_bytes
            blocks += sum(map(_blocks, received.packets))
            yield received

    def _open(self, datagram: bytes, source: Address, now: Micros) -> Received | None:
        self._counts["datagrams received"] += 1
        self._counts["bytes received"] += len(datagram)
        try:
            sender, packets, unknown = self._sessions.receive(datagram, source, now)
        except Malformed as error:
            self._drops[error.reason] += 1
            self.flood.dropped(error.reason, source)
            if error.reason is Drop.KEY_UNKNOWN:
                self.hearing.not_opened(source, now)
            elif error.reason is Drop.SEAL_BROKEN and self._sessions.is_proved(datagram, source):
                self.hearing.seal_broken(now)
            return None
        if unknown:
            self._drops[Drop.KIND_UNKNOWN] += unknown
        return Received(packets, sender, source, len(datagram))


def _blocks(packet: Packet) -> int:
    """How many blocks, dots or rows a packet has: to decide about each costs about as much."""
    items = packet[-1] if packet else ()
    return max(len(items), 1) if type(items) is tuple else 1
