"""What this node sent lately, and where: a cookie is answered only if it was drawn by that.

Rules. Of each address the last counter that went there is remembered, for one to two times TURN_US.
A cookie from an address is answered if it names a counter of this session that may have gone there
in that time, and later than the last answer. What was about liveness is remembered, and goes out
again with it.
"""

from flc_udp.model.address import Address
from flc_udp.waist.replay_window import AGE_US
from flc_udp.wire.packets import LIVENESS_KINDS, Cookie, Hello, Packet

TURN_US = 2 * AGE_US

AGAIN_MAX = 256
"""So many of the last datagrams about liveness are remembered."""


SAID_AGAIN_MAX = 4
"""So many of them go out again with one hello."""


class Sent:
    """The counters of one session that went to each address."""

    def __init__(self) -> None:
        self._last: dict[Address, int] = {}
        self._last_before: dict[Address, int] = {}
        self._begin = self._begin_before = 0
        """The counters that stood when each of the two was begun."""
        self._answered: dict[Address, int] = {}
        """The counter that stood when a cookie from there was last answered."""
        self._again: dict[int, tuple[tuple[Address, ...], tuple[Packet, ...]]] = {}

    def __contains__(self, address: Address) -> bool:
        return address in self._last or address in self._last_before

    def add(self, counter: int, to: tuple[Address, ...], packets: tuple[Packet, ...]) -> None:
        """The datagram with this counter goes to these addresses, with these packets."""
        last = self._last
        for address in to:
            last[address] = counter
        if not LIVENESS_KINDS.isdisjoint(map(type, packets)):
            said = tuple(p for p in packets if not isinstance(p, Hello | Cookie))
            self._again[counter] = to, said
            if len(self._again) > AGAIN_MAX:
                del self._again[next(iter(self._again))]

    def answer(self, counter: int, source: Address, now_at: int) -> tuple[Packet, ...] | None:
        """Give what is to be said again with a hello. None: no answer is due.

        That is what went there last about liveness: none of it may have been taken, and datagrams
        overtake each other. `now_at` is the counter of this session.
        """
        first = max(self._begin_before, self._answered.get(source, 0))
        last = self._last.get(source) or self._last_before.get(source, 0)
        if not first < counter <= last:
            return None
        self._answered[source] = now_at
        said = [
            packets for sent, (to, packets) in self._again.items() if sent > first and source in to
        ]
        return tuple(packet for packets in said[-SAID_AGAIN_MAX:] for packet in packets)

    def turn_over(self, counter: int) -> None:
        """Forget what was sent before the last call of this. `counter` is that of the session."""
        self._last_before, self._last = self._last, {}
        self._begin_before, self._begin = self._begin, counter
        kept = {at: told for at, told in self._answered.items() if told > self._begin_before}
        self._answered = kept
