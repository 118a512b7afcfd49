"""The inbox: datagrams that came, opened once, and taken by the core a turn's worth at a time.

Rules. What tells who is alive waits for nothing, however much else came. Of the rest a turn takes a
bounded number of messages, in the order they came, so that the next probe and the next post are
never far. What waits is bounded; beyond it datagrams are dropped and counted, and repair finds what
was in them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed
from flc_udp.wire import codec
from flc_udp.wire.packets import (
    Ack,
    Join,
    Leave,
    MemberDigest,
    MemberRanges,
    Members,
    Nack,
    Packet,
    Ping,
    PingReq,
    Relayed,
    Replay,
    Rumor,
    Update,
)
from flc_udp.wire.seal import KEY_ID_AT, KEY_ID_BYTES, Seal

INBOX_MAX = 8_192
"""Datagrams that wait for a turn; beyond it they are dropped here instead of in the kernel."""

OPENED_A_TURN = 2_048
"""Datagrams, of which each takes about 10 µs to open and read."""

MESSAGES_A_TURN = 1_024
"""Each takes about 13 µs to decide; a datagram without any counts as one."""

HEARD_MAX = 16_384
"""Nodes of which it is known what they seal under; beyond it the longest unheard is forgotten."""

LIVENESS = frozenset(
    (
        *(Ping, Ack, PingReq, Nack, Relayed, Join, Leave),
        *(Members, MemberRanges, MemberDigest, Update),
    )
)
"""Kinds that wait for nothing."""


class Received(NamedTuple):
    """One datagram, opened and read."""

    packets: list[Packet]
    sender: NodeId
    source: Address


class Inbox:
    """Datagrams of one node that wait to be taken."""

    def __init__(self, seal: Seal, drops: Counter[Drop], counts: Counter[str]) -> None:
        self.heard_under: dict[NodeId, bytes] = {}
        """The id of the key that a node's last datagram about liveness was sealed under: of those
        alone, since they come from everybody, and from nobody often."""
        self._seal = seal
        self._drops = drops
        self._counts = counts
        self._sealed: deque[tuple[bytes, Address]] = deque()
        self._waiting: deque[Received] = deque()

    def __len__(self) -> int:
        return len(self._sealed) + len(self._waiting)

    def add(self, datagram: bytes, source: Address) -> None:
        """One more came."""
        if len(self) < INBOX_MAX:
            self._sealed.append((datagram, source))
        else:
            self._drops[Drop.INBOX_FULL] += 1

    def take(self) -> Iterator[Received]:
        """What this turn is to take: all about liveness, and as much of the rest as it may."""
        for _ in range(min(len(self._sealed), OPENED_A_TURN)):
            datagram, source = self._sealed.popleft()
            received = self._open(datagram, source)
            if received is None:
                continue
            if any(type(packet) in LIVENESS for packet in received.packets):
                self._hear(received.sender, datagram[KEY_ID_AT : KEY_ID_AT + KEY_ID_BYTES])
                yield received
            else:
                self._waiting.append(received)
        messages = 0
        while self._waiting and messages < MESSAGES_A_TURN:
            received = self._waiting.popleft()
            messages += sum(map(_messages, received.packets))
            yield received

    def _hear(self, sender: NodeId, key_id: bytes) -> None:
        # Ids that a holder of the key makes up push a member out only until it is heard again.
        self.heard_under.pop(sender, None)
        self.heard_under[sender] = key_id
        if len(self.heard_under) > HEARD_MAX:
            del self.heard_under[next(iter(self.heard_under))]

    def _open(self, datagram: bytes, source: Address) -> Received | None:
        self._counts["datagrams received"] += 1
        self._counts["bytes received"] += len(datagram)
        try:
            opened = self._seal.open(datagram)
            sender, packets, unknown = codec.read(opened.payload)
        except Malformed as error:
            self._drops[error.reason] += 1
            return None
        if unknown:
            self._drops[Drop.KIND_UNKNOWN] += unknown
        return Received(packets, sender, source)


def _messages(packet: Packet) -> int:
    return len(packet.messages) if isinstance(packet, Rumor | Replay) else 1
