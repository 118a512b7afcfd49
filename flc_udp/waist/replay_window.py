"""Which counters of one session were seen: a datagram that comes again is told by its counter.

The sender counts all of its datagrams, whomever they go to. So a receiver sees only some of the
counters, and may see them out of order. The window is that of IPsec (RFC 6479): a ring of bits, of
which none is ever moved. What lies too far below the greatest counter is refused unseen, and so is
what lies below the greatest one of a while ago. So a recording dies even if its sender says little.
"""

from flc_udp.model.units import SECOND_US, Micros

COUNTERS = 16_384
"""The window reaches this far below the greatest counter. It takes 2 kB."""

AGE_US = 8 * SECOND_US
"""What lies below the greatest counter of one to two times as long ago is refused."""

_BYTES = COUNTERS // 8


class ReplayWindow:
    """The counters of one session that one receiver has seen, from the one that proved it on."""

    __slots__ = ("_bits", "_floor", "_marked_top", "ages_at", "top")

    def __init__(self, proved: int, now: Micros) -> None:
        """No counter up to `proved` is taken any more."""
        self.top = self._floor = self._marked_top = proved
        self.ages_at = now + AGE_US
        """When `age` is due, in µs."""
        self._bits = bytearray(_BYTES)

    def age(self, now: Micros) -> None:
        """Refuse from now on what is too old."""
        self._floor = self._marked_top if now < self.ages_at + AGE_US else self.top
        self._marked_top, self.ages_at = self.top, now + AGE_US

    def is_new(self, counter: int) -> bool:
        """Whether this counter was not seen, and is not too old."""
        if counter > self.top:
            return True
        if counter <= self._floor or counter <= self.top - COUNTERS:
            return False
        return not self._bits[(counter >> 3) % _BYTES] >> (counter & 7) & 1

    def mark(self, counter: int) -> None:
        """This counter was seen. Only an authentic datagram may come to this."""
        if counter > self.top:
            if counter > self.top + 1:
                self._clear(self.top + 1, counter - 1)
            # The bit of the counter itself may be set from a round before, and is to be set.
            self.top = counter
        self._bits[(counter >> 3) % _BYTES] |= 1 << (counter & 7)

    def _clear(self, first: int, last: int) -> None:
        bits = self._bits
        if last - first >= COUNTERS:
            bits[:] = bytes(_BYTES)
            return
        low, high = first >> 3, last >> 3
        below, above = (1 << (first & 7)) - 1, 0xFF & ~((2 << (last & 7)) - 1)
        if low == high:
            bits[low % _BYTES] &= below | above
            return
        bits[low % _BYTES] &= below
        for at in range(low + 1, high):
            bits[at % _BYTES] = 0
        bits[high % _BYTES] &= above
