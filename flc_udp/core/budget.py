"""The budget of reactions: how much one address may draw out of this node with one kind of packet.

Rules. Each (address, kind of packet) has an account. What a packet drew is taken from it, and what
came in, and time, fill it again. While it is empty, packets of that kind from there are dropped and
counted. So no loop of small questions draws a flood of answers, or keeps this node from its other
work. Honest nodes ask for far less: an exchange of two large tables stays within the account.
"""

from flc_udp.core.effects import Effect, Send
from flc_udp.model.address import Address
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.wire import packets as wire
from flc_udp.wire.packets import Packet

REACTIVE = frozenset((
    wire.Ping, wire.PingReq, wire.Join, wire.Members, wire.MemberRanges, wire.MemberDigest,
    wire.Ranges, wire.Digest, wire.Pull, wire.BasePull,
))  # fmt: skip
"""The kinds that are answered with as much as they like, or with more than they are."""

ACCOUNT_BYTES = 256 << 10
"""What may be drawn at once: four of the largest answers to one packet."""

BYTES_A_SECOND = 64 << 10

ACCOUNTS_MAX = 4_096
"""At most this many accounts are kept. The one that was used longest ago is forgotten."""

ITEM_BYTES = 64
"""About what an item of a packet takes."""

PACKET_BYTES = 64
"""About what a packet takes besides."""


class Budget:
    """All accounts of one node."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[Address, type[Packet]], tuple[int, Micros]] = {}
        """The bytes that are owed, and when that was."""

    def allows(self, source: Address, packet: Packet, now: Micros) -> bool:
        """Whether a packet of this kind from there may draw anything now."""
        kind = type(packet)
        return kind not in REACTIVE or self._owed(source, kind, now) < ACCOUNT_BYTES

    def drew(self, source: Address, packet: Packet, effects: list[Effect], now: Micros) -> None:
        """These effects are what a packet drew."""
        kind, drawn = type(packet), sum(map(_size_bytes, effects))
        if not drawn or kind not in REACTIVE:
            return
        owed = self._owed(source, kind, now) + max(drawn - _bytes_of(packet), 0)
        self._accounts.pop((source, kind), None)
        self._accounts[source, kind] = owed, now
        if len(self._accounts) > ACCOUNTS_MAX:
            del self._accounts[next(iter(self._accounts))]

    def _owed(self, source: Address, kind: type[Packet], now: Micros) -> int:
        owed, at = self._accounts.get((source, kind), (0, now))
        return max(owed - (now - at) * BYTES_A_SECOND // SECOND_US, 0)


def _size_bytes(effect: Effect) -> int:
    return sum(map(_bytes_of, effect.packets)) if isinstance(effect, Send) else 0


def _bytes_of(packet: Packet) -> int:
    last = packet[-1] if packet else ()
    items = len(last) * ITEM_BYTES if isinstance(last, tuple) else 0
    return PACKET_BYTES + items + (len(last) if isinstance(last, bytes) else 0)
