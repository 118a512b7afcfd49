"""A flood from strangers: what the kernel is to drop before this node has to read it.

    datagrams a second that are from nobody     what is read
    ───────────────────────────────────────     ────────────────────────────────────────────
    few                                         all
    many, of other versions or keys             what is under this node's keys, and a sample
    many, also under this node's keys           of that what members send, and a sample

A datagram that is refused costs this node about ten microseconds all the same, because it has to
be read. A filter of the kernel refuses it for a tenth of that. Who has not the key can write the
version, the id of a key and even a session that he has seen into his datagrams. He can also write
any source address, but networks seldom let that pass.

Rules. The door is narrowed only while many datagrams come that are from nobody. Some hundreds of
them a second are read all the same, as a sample. So newcomers get in, if slowly, an address that
sends under an unknown key is still told, and the sample tells when the flood has ended. Members are
known by their addresses, because one that starts again has another session. Whoever draws a cookie
may answer it: he is let in until the next look, but not again within a minute, because a recording
draws cookies, too.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.errors import Drop
from flc_udp.model.units import SECOND_US, Micros

LOOK_US = SECOND_US

MANY = 1_000
"""More datagrams a second than this from nobody are a flood. They take about a hundredth of a core,
and no mistake of an operator sends so many."""

ENDED_LOOKS = 10
"""The flood has ended when so many looks in a row found fewer."""

SAMPLE_A_SECOND, SAMPLE_MOST = 500, 1_024
"""Of the datagrams that the kernel drops at most so many a second are read, one in a power of two,
and no fewer than one in so many."""

ADDRESSES_MAX = 3_500
"""A filter has room for so many hosts. Where there are more members the door is not narrowed by
addresses, because that would keep some of them out."""

AWAITED_MAX, AWAITED_US = 256, 60 * SECOND_US
"""So many that drew a cookie are remembered, for so long."""

OF_OTHERS = (Drop.DATAGRAM_SIZE, Drop.WIRE_VERSION_UNKNOWN, Drop.KEY_UNKNOWN)
"""What is dropped for the first bytes of a datagram."""

OF_NOBODY = (
    *(Drop.SEAL_BROKEN, Drop.SESSIONS_TOO_MANY, Drop.UNPROVED, Drop.REPLAYED),
    *(Drop.HELLO_NOT_GOOD, Drop.COOKIE_NOT_DRAWN, Drop.OWN_DATAGRAM, Drop.RECEIVER_OTHER),
)
"""What is dropped though its first bytes are those of this cluster."""


class Door(NamedTuple):
    """What is read; of all else, one in `sample`."""

    key_ids: tuple[bytes, ...]
    """What is sealed under these keys, in this wire version."""
    addresses: tuple[Address, ...] | None
    """And is sent from these addresses. None: from any."""
    sample: int
    """A power of two."""


class Flood:
    """Watches what comes from nobody, and says how wide the door is."""

    def __init__(self, drops: Counter[Drop], now: Micros) -> None:
        self.a_second = 0
        """So many datagrams from nobody came in the last second, read or not. It is an estimate
        while there is a flood."""
        self.door: Door | None = None
        """None: all is read."""
        self._drops = drops
        self._others, self._nobodys = self._counts()
        self._looked_at = now
        self._quiet_looks = 0
        self._known: frozenset[Address] = frozenset()
        """From where all is read, while the door is narrow."""
        self._spared = 0
        """So much was dropped that came from there."""
        self._awaited: dict[Address, Micros] = {}
        """Who drew a cookie, and when."""

    @property
    def wake_at(self) -> int:
        """When the next look is due."""
        return self._looked_at + LOOK_US

    def look(
        self, key_ids: Iterable[bytes], addresses: Callable[[], Iterable[Address]], now: Micros
    ) -> bool:
        """Look what came since the last look. Return whether the door is another one now."""
        if now < self.wake_at:
            return False
        others, nobodys = self._counts()
        seconds = max((now - self._looked_at) / SECOND_US, 1)
        before = self.door
        stretch = before.sample if before else 1
        other_rate = (others - self._others) * stretch / seconds
        nobody_rate = (nobodys - self._nobodys) / seconds
        if before is not None and before.addresses is not None:
            # What came from these addresses was read in full.
            spared, self._spared = self._spared / seconds, 0
            nobody_rate = max(nobody_rate - spared, 0) * before.sample + spared
        self._others, self._nobodys, self._looked_at = others, nobodys, now
        self.a_second = round(other_rate + nobody_rate)
        self._quiet_looks = 0 if self.a_second > MANY else self._quiet_looks + 1
        if self._quiet_looks >= ENDED_LOOKS:
            self.door = None
        elif before is not None or self.a_second > MANY:
            is_near = nobody_rate > MANY or (before is not None and before.addresses is not None)
            known = tuple(dict.fromkeys(addresses())) if is_near else ()
            kept = known if 0 < len(known) <= ADDRESSES_MAX else None
            self.door = Door(tuple(key_ids), kept, self._sample())
        self._known = frozenset(self.door.addresses or () if self.door else ())
        return self.door != before

    def _sample(self) -> int:
        """One in so many is enough to see of what comes."""
        sample = 2
        while sample < SAMPLE_MOST and self.a_second > sample * SAMPLE_A_SECOND:
            sample *= 2
        if self.door is None:
            return sample
        # Chance lets a sample swing, and a pause is no end: it changes when it is far off.
        before, is_pause = self.door.sample, self.a_second <= MANY
        return before if is_pause or sample in (before, before // 2) else sample

    def dropped(self, drop: Drop, source: Address) -> None:
        """This was dropped, and came from there."""
        if source in self._known and drop in OF_NOBODY:
            self._spared += 1

    def await_answers(self, drew: Iterable[Address], now: Micros) -> bool:
        """These drew a cookie. Return whether the door is another one now, so that they get in."""
        if self.door is None or self.door.addresses is None:
            return False
        unknown = [address for address in dict.fromkeys(drew) if address not in self._known]
        if not unknown:
            return False
        late = [address for address, at in self._awaited.items() if now - at > AWAITED_US]
        for address in late:
            del self._awaited[address]
        fresh = [address for address in unknown if address not in self._awaited]
        fresh = fresh[: AWAITED_MAX - len(self._awaited)]
        self._awaited |= dict.fromkeys(fresh, now)
        self._known |= frozenset(fresh)
        self.door = self.door._replace(addresses=(*self.door.addresses, *fresh))
        return bool(fresh)

    def _counts(self) -> tuple[int, int]:
        drops = self._drops
        return sum(drops[drop] for drop in OF_OTHERS), sum(drops[drop] for drop in OF_NOBODY)
