"""What a stranger, and what a hostile holder of the key, can do to the member table.

What is mutated after sealing changes nothing: a node does byte for byte what its untroubled twin
does. What is mutated before sealing is heard like any claim: no crash, and every table stays within
its bound. A false accusation is refuted by its subject within the shortest suspicion timeout.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from math import log10
from random import Random
from typing import Any

import msgpack
import pytest

from flc_udp.config import (
    HASH_BYTES,
    ID_BYTES,
    INCARNATION_LIMIT,
    RANGE_FANOUT,
    RANGE_LEVELS,
    SEAL_BYTES,
    Settings,
)
from flc_udp.core.effects import Deliver
from flc_udp.core.liveness import detector, hearsay, rejoin
from flc_udp.core.liveness.members import alive_row
from flc_udp.core.notices import MemberChanged, MemberDied, MemberSuspected, Refuted
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.history import History
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US, SECOND_US
from flc_udp.sim.world import World
from flc_udp.waist import hearing, sent, sessions
from flc_udp.waist.node import Node
from flc_udp.waist.notices import Flooded
from flc_udp.waist.ports import Batch
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
    Update,
)
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import NUMBER_LIMIT, MemberRow, State
from flc_udp.wire.seal import HEADER_BYTES, SESSION_BYTES, Seal, keyring
from tests.model.kept import KeptInList
from tests.search import TIMES
from tests.waist.credulous import believe_all
from tests.waist.ground import ListGround

RING = keyring((b"k" * 32,), "flc")
PAYLOAD_BYTES = 1_400 - SEAL_BYTES
NO_ROOT = bytes(HASH_BYTES)
LOWEST, HIGHEST = bytes(ID_BYTES), b"\xff" * ID_BYTES

STEP_MS = 10
"""Between two turns: far below what a node takes for a stall of its own."""


def row_of(number: int, name: str) -> MemberRow:
    """An honest member as it says of itself."""
    node = name.encode().ljust(8, b"-")
    return alive_row(node, 1_000, Address(f"10.0.0.{number}", 7352), name, number)


ANN, BEN, CAT, DAN, EVE = (
    row_of(number, name) for number, name in enumerate(("ann", "ben", "cat", "dan", "eve"), 1)
)
OUTSIDE = Address("10.9.9.9", 9)


class Stand(ListGround):
    """A node on a ground made of lists. Nobody says anything, so there is no disk."""

    def __init__(self, me: MemberRow, **settings: int) -> None:
        super().__init__()
        self.address = me.address
        self.told: Counter[type[Notice]] = Counter()
        seal = Seal(RING, me.name.encode().ljust(SESSION_BYTES, b"."))
        reader, random = KeptInList([]), Random(me.name)
        node = Node(Settings(**settings), me, History(), reader, seal, self, random)
        self.node = believe_all(node)

    def commit(self, batch: Batch, *, at_once: bool) -> None:
        """There is nothing to keep."""
        raise AssertionError(f"{batch} out of membership packets")

    def show(self, deliver: Deliver) -> None:
        """There is nothing to show."""
        raise AssertionError(f"{deliver} out of membership packets")

    def tell(self, notice: Notice) -> None:
        """Count it: a list would grow with every lie."""
        self.told[type(notice)] += 1

    def turn(self) -> None:
        """A step of time passes, and the node has its turn."""
        self.time += STEP_MS * MS_US
        self.node.turn()


def tables(node: Node) -> dict[str, int]:
    """How long the tables of liveness are: this file knows nothing else of the inside."""
    # No other way tells them, and that they are bounded is what is claimed.
    membership = node._replica._membership  # noqa: SLF001
    probing = membership.detector
    return {
        "rows": len(node.facts().members),
        "suspicions": len(membership.claims.suspicions),
        "reaped": len(membership.members._reaped),  # noqa: SLF001
        "silent addresses": len(membership._rejoin._silent),  # noqa: SLF001
        "errands": len(probing._errands),  # noqa: SLF001
        "hearsay": len(membership.claims.hearsay),
        "rounds": len(probing.probes._rounds),  # noqa: SLF001
        "heard under": len(node.hearing),
    }


def sealed(seal: Seal, sender: NodeId, *packets: Packet) -> list[bytes]:
    """Datagrams of somebody who holds the key."""
    return [seal.close(payload) for payload in pack(sender, packets, PAYLOAD_BYTES)]


# --- Mutated after sealing ----------------------------------------------------------------------

KINDS = (
    Ping,
    Ack,
    PingReq,
    Nack,
    Relayed,
    Join,
    Members,
    MemberRanges,
    MemberDigest,
    Update,
    Leave,
)
STRANGERS = 4
MUTANTS = 100_000 // STRANGERS
MUTANTS_A_TURN = 250


def acquainted() -> Stand:
    """Ann, who knows four members, and has probes under way and a suspicion of one of them."""
    ann = Stand(ANN)
    seal = Seal(RING, b"a session of bob")
    rows = (BEN, CAT, DAN, EVE._replace(state=State.SUSPECT, accuser=DAN.id))
    for letter in sealed(seal, BEN.id, Join(BEN), Update(rows)):
        ann.node.datagram_received(letter, BEN.address)
    for _ in range(100):
        ann.turn()
    return ann


def nonces_in(sent: Sequence[tuple[bytes, Address]]) -> list[int]:
    """Nonces of the pings and ping-reqs among what was sent."""
    opener = Seal(RING, bytes(SESSION_BYTES))
    packets = (p for datagram, _ in sent for p in codec.read(opener.open(datagram).payload)[1])
    return [packet.nonce for packet in packets if isinstance(packet, Ping | PingReq)]


def packets_of(me: MemberRow, nonce: int) -> list[Packet]:
    """One of each membership kind from a member; every one would matter to ann."""
    newer = me._replace(incarnation=me.incarnation + 1)
    accused = ANN._replace(state=State.SUSPECT, accuser=me.id)
    dead = EVE._replace(state=State.DEAD)
    return [
        Ping(7, NO_ROOT, NO_ROOT, False, NO_ROOT, 3),
        Ack(nonce, NO_ROOT, NO_ROOT, False, 0, 3),
        PingReq(8, CAT.id),
        Nack(nonce),
        Relayed(nonce, me.id),
        Join(newer),
        Members((newer, dead)),
        MemberRanges(LOWEST, 0, bytes(RANGE_FANOUT * HASH_BYTES)),
        MemberDigest(LOWEST, HIGHEST, (newer, dead)),
        Update((accused, dead)),
        Leave(9, newer._replace(state=State.LEFT)),
    ]


def letters_to(ann: Stand, *kinds: type) -> list[bytes]:
    """A sealed datagram of each of the kinds from each of four members; ann has heard none."""
    nonce = nonces_in(ann.sent)[-1]
    return [
        letter
        for me in (BEN, CAT, DAN, EVE)
        for seal in [Seal(RING, me.name.encode().ljust(SESSION_BYTES, b"+"))]
        for packet in packets_of(me, nonce)
        if isinstance(packet, kinds)
        for letter in sealed(seal, me.id, packet)
    ]


def flipped(random: Random, letter: bytes) -> bytes:
    """One to eight bits turned."""
    found = bytearray(letter)
    for _ in range(random.randint(1, 8)):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def reheaded(random: Random, letter: bytes) -> bytes:
    """Some bytes of the header written over: version, key id, session or counter."""
    at = random.randrange(HEADER_BYTES)
    length = min(random.randint(1, 8), HEADER_BYTES - at)
    return letter[:at] + random.randbytes(length) + letter[at + length :]


def spliced(random: Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one datagram and the end of another."""
    at = random.choice((HEADER_BYTES, random.randrange(len(one))))
    return one[:at] + other[random.choice((at, random.randrange(len(other)))) :]


def mutant(random: Random, letters: Sequence[bytes]) -> bytes:
    """Some sealed datagram, damaged in one of the ways there are."""
    letter = random.choice(letters)
    match random.randrange(5):
        case 0:
            return flipped(random, letter)
        case 1:
            return letter[: random.randrange(len(letter))]
        case 2:
            return letter + random.randbytes(random.randint(1, 64))
        case 3:
            return spliced(random, letter, random.choice(letters))
        case _:
            return reheaded(random, letter)


def mutants(random: Random, letters: Sequence[bytes]) -> Iterator[bytes]:
    """Mutants for ever, none of which is one of the datagrams again."""
    known = set(letters)
    while True:
        found = mutant(random, letters)
        if found not in known:
            yield found


def picture(stand: Stand) -> dict[str, object]:
    """All that can be seen of a node: what it believes, waits for, told and sent, byte for byte."""
    node = stand.node
    return {
        "facts": node.facts(),
        "tables": tables(node),
        "sent": stand.sent,
        "told": stand.told - Counter({Flooded: stand.told[Flooded]}),  # That much came.
        "saved": (stand.selves, stand.peers),
        "wake at": node.wake_at,
    }


@pytest.mark.parametrize("seed", range(STRANGERS))
def test_what_is_mutated_after_sealing_changes_nothing(seed: int) -> None:
    """25,000 mutants, four times: the node goes on as its twin does, and counts each as a drop."""
    ann, twin = acquainted(), acquainted()
    letters = letters_to(ann, *KINDS)
    found = mutants(Random(seed), letters)
    for turn in range(MUTANTS // MUTANTS_A_TURN):
        source = (BEN, CAT, DAN, EVE)[turn % 4].address
        for _ in range(MUTANTS_A_TURN):
            ann.node.datagram_received(next(found), source)
        ann.turn()
        twin.turn()
        assert picture(twin) == picture(ann)

    assert ann.node.drops().total() == MUTANTS
    assert twin.node.drops().total() == 0
    assert ann.node.drops()[Drop.SEAL_BROKEN] > MUTANTS // 2


@pytest.mark.parametrize("kind", KINDS)
def test_unmutated_each_of_those_datagrams_changes_something(kind: type) -> None:
    """Only the mutation stands in their way; but a nack is not seen before its round ends."""
    ann, twin = acquainted(), acquainted()
    for letter in letters_to(ann, kind):
        ann.node.datagram_received(letter, BEN.address)
    ann.turn()
    twin.turn()

    assert not ann.node.drops()
    assert kind is Nack or picture(twin) != picture(ann)


# --- Mutated before sealing ---------------------------------------------------------------------

HOSTILE = 40_000 * TIMES
LETTERS_A_STEP = 50
MEMBERS_MAX = 32
BOUNDS = {
    "rows": MEMBERS_MAX,
    "suspicions": MEMBERS_MAX,
    "reaped": MEMBERS_MAX,
    "silent addresses": 64,
    "errands": 8,
    "heard under": 64,
    "hearsay": 1_024,
    "rounds": 4 * MEMBERS_MAX,  # Here only that none stays; the bound has a test of its own.
}
FILLED = ("errands", "heard under")
"""Those that are full at times: it is their bound that holds, not that there is no more to keep."""

GROWTH_BYTES = 32_768
"""Of about 80,000 that a node weighs; one byte string lost for each datagram were two million."""

WAVE_LETTERS = HOSTILE // 16
WAVES = (
    tuple(State),
    (State.ALIVE, State.SUSPECT),
    (State.SUSPECT, State.DEAD),
    (State.LEFT,),
)
"""What the holder claims in turn: so tables fill, are fought for, and empty again."""

NUMBERS = (0, 1, 2, 127, 1 << 16, INCARNATION_LIMIT, 1 << 53, NUMBER_LIMIT - 1, -1)
JUNK: tuple[Any, ...] = (None, True, -1, 0, 1.5, "", "x", b"", bytes(8), [], [[]], {}, 1 << 63)


class Holder:
    """Somebody who has the key and means ill; knows all members, and reads what comes its way."""

    def __init__(self, seed: int, honest: Sequence[Stand]) -> None:
        self.random = random = Random(seed)
        self.nonces = [random.getrandbits(64) for _ in range(16)]
        self._written = 0
        self._states = WAVES[0]
        self._honest = honest
        self._phantoms = [self._phantom() for _ in range(4 * MEMBERS_MAX)]
        self._names = ("ann", "mallory", "ü" * 64, "x")
        self._seals = [Seal(RING, random.randbytes(SESSION_BYTES)) for _ in range(4)]
        self._opener = Seal(RING, bytes(SESSION_BYTES))
        often = (
            self._ping,
            self._ack,
            self._ping_req,
            self._nack,
            self._relayed,
            self._join,
            self._members,
            self._member_digest,
            self._update,
            self._leave,
        )
        # Whose answer is the longest: oftener it would only make this slow.
        self._makers = (*often, *often, *often, self._member_ranges)

    def hear(self, datagram: bytes) -> None:
        """Read what was sent to one of its addresses: it may answer with the right nonce."""
        try:
            _, packets, _ = codec.read(self._opener.open(datagram).payload)
        except Malformed:  # It drove somebody to say what nobody can read.
            return
        for packet in packets:
            if isinstance(packet, Ping | PingReq):
                self.nonces[self.random.randrange(len(self.nonces))] = packet.nonce

    def letter(self) -> bytes:
        """One datagram: well formed, or with fields that are not, or with bytes that are not."""
        random = self.random
        self._written += 1
        self._states = WAVES[self._written // WAVE_LETTERS % len(WAVES)]
        payload = pack(self._sender(), [random.choice(self._makers)()], PAYLOAD_BYTES)[0]
        luck = random.random()
        if luck < 1 / 4:
            payload = self._misfielded(payload)
        elif luck < 1 / 2:
            payload = flipped(random, payload) if luck < 3 / 8 else self._cut_up(payload)
        return random.choice(self._seals).close(payload)

    def source(self) -> Address:
        """Where it sends from: mostly its own address, else a member's, which gets the answer."""
        addresses = (ANN.address, BEN.address, CAT.address)
        return self.random.choice(addresses) if self.random.random() < 1 / 4 else OUTSIDE

    # --- Bytes ------------------------------------------------------------------------------

    def _misfielded(self, payload: bytes) -> bytes:
        """One value somewhere in it is another, of the right kind or of none."""
        tree = msgpack.unpackb(payload)
        place = tree
        while True:
            at = self.random.randrange(len(place))
            if not isinstance(place[at], list) or not place[at] or self.random.random() < 1 / 8:
                break
            place = place[at]
        place[at] = self._other(place[at])
        packed: bytes = msgpack.packb(tree)
        return packed

    def _other(self, value: object) -> object:
        choice = self.random.choice
        if self.random.random() < 1 / 4:
            return choice(JUNK)
        match value:
            case bool():
                return not value
            case int():
                near = abs(value + choice((-1, 1))) % NUMBER_LIMIT
                return choice((near, choice(NUMBERS), self._nonce()))
            case bytes():
                return choice((self._id(), VISITOR, value[:-1], value + b"-"))
            case str():
                return choice((*self._names, str(self._address()), "0.0.0.0:7352", "a\0b"))
            case list():
                return choice((value[:0], value * 2, value[1:], value[:-1]))
            case _:
                raise AssertionError(f"no field holds {value!r}")

    def _cut_up(self, payload: bytes) -> bytes:
        at = self.random.randrange(len(payload))
        return self.random.choice((payload[:at], payload[at:], payload + payload[at:]))

    # --- Values -----------------------------------------------------------------------------

    def _phantom(self) -> MemberRow:
        node = self.random.randbytes(ID_BYTES)
        return MemberRow(node, 1_000, State.ALIVE, self._address(), "mallory", 1)

    def _known(self) -> MemberRow:
        """An honest member, one it made up before, or a new one."""
        random = self.random
        luck = random.random()
        if luck < 1 / 4:
            return random.choice(self._honest).node.me
        return random.choice(self._phantoms) if luck < 15 / 16 else self._phantom()

    def _id(self) -> NodeId:
        return self._known().id

    def _sender(self) -> NodeId:
        return self.random.choice((VISITOR, self._id()))

    def _address(self) -> Address:
        random = self.random
        if random.random() < 1 / 4:
            return random.choice((ANN.address, BEN.address, CAT.address, Address("::1", 9)))
        return Address(f"10.{random.randint(1, 9)}.{random.randrange(256)}.1", 7352)

    def _row(self) -> MemberRow:
        """A claim about somebody: in this wave's states, about as new as what is held."""
        random = self.random
        row = self._known()
        row = row._replace(
            incarnation=max(row.incarnation, 1_000 + self._written // 100) + random.randint(-3, 3),
            state=random.choice(self._states),
            accuser=random.choice((VISITOR, self._id())),
        )
        if random.random() < 1 / 2:
            row = row._replace(address=self._address())
        if random.random() < 1 / 8:
            row = row._replace(name=random.choice(self._names), boot=self._nonce())
        if random.random() < 1 / 10_000:
            row = row._replace(incarnation=random.choice((0, INCARNATION_LIMIT - 1)))
        return row

    def _rows(self) -> tuple[MemberRow, ...]:
        return tuple(self._row() for _ in range(self.random.randint(1, 4)))

    def _nonce(self) -> int:
        return self.random.choice(self.nonces)

    def _roots(self) -> tuple[bytes, bytes, bool]:
        return NO_ROOT, self.random.randbytes(8), self.random.random() < 1 / 2

    # --- Packets ----------------------------------------------------------------------------

    def _ping(self) -> Ping:
        return Ping(self._nonce(), *self._roots(), NO_ROOT, self._nonce())

    def _ack(self) -> Ack:
        return Ack(self._nonce(), *self._roots(), 0, self._nonce())

    def _ping_req(self) -> PingReq:
        return PingReq(self._nonce(), self._id())

    def _nack(self) -> Nack:
        return Nack(self._nonce())

    def _relayed(self) -> Relayed:
        return Relayed(self._nonce(), self._id())

    def _join(self) -> Join:
        return Join(self._row())

    def _members(self) -> Members:
        return Members(self._rows())

    def _member_ranges(self) -> MemberRanges:
        random = self.random
        low = random.choice((LOWEST, self._id()))
        hashes = random.choice((bytes, random.randbytes))(RANGE_FANOUT * HASH_BYTES)
        return MemberRanges(low, random.choice((0, random.randrange(RANGE_LEVELS))), hashes)

    def _member_digest(self) -> MemberDigest:
        low, high = sorted((self._id(), self._id()))
        return MemberDigest(*self.random.choice(((LOWEST, HIGHEST), (low, high))), self._rows())

    def _update(self) -> Update:
        return Update(self._rows())

    def _leave(self) -> Leave:
        return Leave(self._nonce(), self._row())


class Hall:
    """Honest nodes that reach each other, and a hostile holder at every other address."""

    def __init__(self, seed: int, **settings: int) -> None:
        self.stands = {row.address: Stand(row, **settings) for row in (ANN, BEN, CAT)}
        self.ann = self.stands[ANN.address]
        honest = list(self.stands.values())
        self.holder = Holder(seed, honest)
        for stand in honest[1:]:
            stand.node.join([ANN.address])

    def step(self, letters: int = 0) -> None:
        """What was sent arrives, and so many datagrams of the holder's at ann; all have a turn."""
        for stand in self.stands.values():
            sent, stand.sent = stand.sent, []
            for datagram, to in sent:
                self._carry(datagram, stand.address, to)
        for _ in range(letters):
            self.ann.node.datagram_received(self.holder.letter(), self.holder.source())
        for stand in self.stands.values():
            stand.turn()

    def _carry(self, datagram: bytes, source: Address, to: Address) -> None:
        if to in self.stands:
            self.stands[to].node.datagram_received(datagram, source)
        elif self.holder.random.random() < 1 / 16:
            self.holder.hear(datagram)


def weight(stand: Stand) -> int:
    """Bytes of all that hangs on a node, but for its ground."""
    seen = {id(stand)}
    todo: list[object] = [stand.node]
    size = 0
    while todo:
        found = todo.pop()
        if id(found) not in seen and not callable(found):
            seen.add(id(found))
            size += sys.getsizeof(found)
            todo += gc.get_referents(found)
    return size


def test_whatever_is_mutated_before_sealing_every_table_stays_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40,000 datagrams of a hostile holder: no crash, and the last half of them costs no memory."""
    monkeypatch.setattr(rejoin, "REMEMBERED_MAX", BOUNDS["silent addresses"])
    monkeypatch.setattr(detector, "ERRANDS_MAX", BOUNDS["errands"])
    monkeypatch.setattr(hearsay, "WAITING_MAX", 64)
    monkeypatch.setattr(hearing, "HEARD_MAX", BOUNDS["heard under"])
    monkeypatch.setattr(sessions, "TURN_US", 500 * MS_US)
    monkeypatch.setattr(sent, "AGAIN_MAX", 16)
    hall = Hall(2, members_max=MEMBERS_MAX, reap_after_s=1, exchange_interval_ms=1_000)
    stands = hall.stands.values()
    peak: Counter[str] = Counter()
    weights = []
    for _ in range(2):
        for _ in range(HOSTILE // 2 // LETTERS_A_STEP):
            hall.step(LETTERS_A_STEP)
            for stand in stands:
                peak |= Counter(tables(stand.node))
        for _ in range(5 * SECOND_US // MS_US // STEP_MS):
            hall.step()  # Those that were only told of are asked, and forgotten.
        weights.append([weight(stand) for stand in stands])

    assert {table: most for table, most in peak.items() if most > BOUNDS[table]} == {}
    assert [table for table in FILLED if peak[table] < BOUNDS[table]] == []
    assert all(later - earlier <= GROWTH_BYTES for earlier, later in zip(*weights, strict=True))
    assert hall.ann.node.counts["datagrams received"] >= HOSTILE
    assert hall.ann.told[Refuted] > 0


NAMED = [row_of(number, f"n{number}") for number in range(9, 99)]


def test_tombstones_of_the_reaped_are_bounded() -> None:
    """Five tables of members that left are reaped; no more are remembered than a table holds."""
    ann = Stand(ANN, members_max=MEMBERS_MAX, reap_after_s=1)
    random, seal = Random(1), Seal(RING, b"a holder's own..")
    for _ in range(5):
        ids = [random.randbytes(8) for _ in range(MEMBERS_MAX - 2)]
        rows = [row._replace(id=node) for row, node in zip(NAMED, ids, strict=False)]
        for row in rows:
            for letter in sealed(
                seal, row.id, Join(row), Update((row._replace(state=State.LEFT),))
            ):
                ann.node.datagram_received(letter, row.address)
        ann.turn()
        assert tables(ann.node)["rows"] == 1 + len(rows)
        for _ in range(3_000 // STEP_MS):
            ann.turn()
        assert tables(ann.node)["rows"] == 1

    assert tables(ann.node)["reaped"] == MEMBERS_MAX


def test_a_suspicion_remembers_few_accusers() -> None:
    """2,000 accusers of one suspect, none of whom exists, cost no more memory than a few."""
    ann = acquainted()
    random, seal = Random(1), Seal(RING, b"a holder's own..")
    suspect = BEN._replace(state=State.SUSPECT)
    weights = []
    for _ in range(2):
        for _ in range(100):
            rows = tuple(suspect._replace(accuser=random.randbytes(8)) for _ in range(10))
            for letter in sealed(seal, BEN.id, Update(rows)):
                ann.node.datagram_received(letter, BEN.address)
        ann.sent.clear()
        ann.node.turn()
        weights.append(weight(ann))

    believed = ann.node.member(BEN.id)
    assert believed is not None
    assert believed.row.state is State.SUSPECT
    assert weights[1] - weights[0] <= 1_000 * 8


def told_of_the_short_lived() -> Stand:
    """Ann, told of twice a table of members suspected, to be verified by a probe, and then dead."""
    ann = Stand(ANN, members_max=MEMBERS_MAX)
    random, seal = Random(1), Seal(RING, b"a holder's own..")
    for _ in range(2 * MEMBERS_MAX):
        suspect = BEN._replace(id=random.randbytes(8), state=State.SUSPECT, accuser=BEN.id)
        rows = (suspect, suspect._replace(state=State.DEAD))
        for letter in sealed(seal, BEN.id, Update(rows)):
            ann.node.datagram_received(letter, BEN.address)
    ann.turn()
    return ann


def test_no_more_probes_are_under_way_than_there_are_members() -> None:
    """Who is to be verified by a probe, and is dead in the next claim, leaves no probe."""
    assert tables(told_of_the_short_lived().node)["rounds"] <= MEMBERS_MAX


def test_no_probe_outlives_its_timeout() -> None:
    """A probe of a member that died meanwhile ends as any."""
    ann = told_of_the_short_lived()
    for _ in range(40_000 // STEP_MS):  # longer than a lone accuser takes
        ann.turn()

    assert tables(ann.node)["rounds"] == 0


# --- False accusations --------------------------------------------------------------------------

SEEDS = 20
SETTINGS = Settings()


def shortest_timeout_ms(members: int) -> int:
    """How long a suspect has to refute when enough others accuse it."""
    return round(SETTINGS.suspect_timeout_ms * max(1, log10(members + 1)))


class Intrigue:
    """Five honest members of a world, and an outsider who has the key and accuses them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.told: list[tuple[type[Notice], str]] = []
        self._random = Random(seed)
        self._seal = Seal(world.ring, b"an outsider's...")
        self._outside, _ = world.network.attach(lambda *_: None)
        world.trace.names.append("outsider")
        for machine in world.machines.values():
            believe_all(machine.running)
        world.listeners.append(self._listen)
        world.run(1_000)

    def _listen(self, _number: int, notice: Notice) -> None:
        if isinstance(notice, MemberChanged):
            self.told.append((type(notice), notice.member))

    def row(self, teller: str, about: str) -> MemberRow | None:
        """What one believes of another, or of itself."""
        nodes = [self.world.machines[name].node for name in (teller, about)]
        assert nodes[0] is not None
        assert nodes[1] is not None
        if teller == about:
            return nodes[0].me
        known = nodes[0].member(nodes[1].me.id)
        return None if known is None else known.row

    def accuse(self, name: str, state: State, incarnation: int | None = None) -> MemberRow:
        """Some of the others are told so of a member, which does not hear it; its row before."""
        random = self._random
        before = self.row(name, name)
        assert before is not None
        claim = before._replace(state=state, incarnation=incarnation or before.incarnation)
        others = [other for other in self.world.machines if other != name]
        for other in random.sample(others, random.randint(1, len(others))):
            tellers = [self.row(teller, teller) for teller in others if teller != other]
            ids = [row.id for row in random.sample(tellers, random.randint(1, 3)) if row]
            rows = tuple(claim._replace(accuser=node) for node in ids)
            self._send(other, random.choice((VISITOR, *ids)), rows)
        return before

    def _send(self, to: str, sender: NodeId, rows: tuple[MemberRow, ...]) -> None:
        """From outside, or as if from a member's address."""
        machines = self.world.machines
        numbers = [machine.number for machine in machines.values() if machine.name != to]
        for letter in sealed(self._seal, sender, Update(rows)):
            at = self._random.choice((self._outside, *numbers))
            self.world.network.transmit(at, letter, machines[to].address)

    def is_alive_to_all(self, name: str) -> bool:
        """Whether all hold a member for alive, and just as it says itself."""
        now = self.row(name, name)
        assert now is not None
        believed = {self.row(teller, name) for teller in self.world.machines}
        return believed == {now} and now.state is State.ALIVE

    def is_refuted(self, before: MemberRow, name: str) -> bool:
        """Whether they do so at a higher incarnation than before."""
        now = self.row(name, name)
        assert now is not None
        return self.is_alive_to_all(name) and now.incarnation > before.incarnation


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_false_suspicion_is_refuted_within_the_timeout_and_nobody_dies(seed: int) -> None:
    """Each of five in turn is falsely suspected, by one to three accusers, at some of the others.

    All hold it for alive again within the shortest timeout, and nobody is ever told of a death.
    """
    with World(5, seed, grown=True) as world:
        intrigue = Intrigue(world, seed)
        for name in world.machines:
            before = intrigue.accuse(name, State.SUSPECT)
            world.run(shortest_timeout_ms(5))
            assert (MemberSuspected, name) in intrigue.told
            assert intrigue.is_refuted(before, name)
        world.run(shortest_timeout_ms(5) * SETTINGS.suspect_timeout_factor)

        assert [told for told in intrigue.told if told[0] is MemberDied] == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_false_death_is_refuted_within_the_timeout(seed: int) -> None:
    """Each of five in turn is falsely told dead to some of the others, and refutes in time."""
    with World(5, seed, grown=True) as world:
        intrigue = Intrigue(world, seed)
        for name in world.machines:
            before = intrigue.accuse(name, State.DEAD)
            world.run(shortest_timeout_ms(5))
            assert (MemberSuspected, name) in intrigue.told
            assert intrigue.is_refuted(before, name)


@pytest.mark.parametrize("state", [State.SUSPECT, State.DEAD])
@pytest.mark.parametrize("seed", range(3))
def test_who_is_accused_again_and_again_refutes_each_time(seed: int, state: State) -> None:
    """Accusations stretch the accused's own probes ninefold; it hears of the next all the same."""
    with World(5, seed, grown=True) as world:
        intrigue = Intrigue(world, seed)
        for _ in range(12):
            before = intrigue.accuse("b", state)
            world.run(shortest_timeout_ms(5))
            assert intrigue.is_refuted(before, "b")


@pytest.mark.parametrize("state", [State.SUSPECT, State.DEAD, State.LEFT])
@pytest.mark.parametrize("below", [1, 2, 3])
def test_a_claim_at_the_highest_incarnations_is_refused_or_refuted(
    below: int, state: State
) -> None:
    """There is an incarnation above every one that is believed, and that one is believed too."""
    with World(5, 1, grown=True) as world:
        intrigue = Intrigue(world, 1)
        intrigue.accuse("b", state, INCARNATION_LIMIT - below)
        world.run(shortest_timeout_ms(5))

        assert intrigue.is_alive_to_all("b")
