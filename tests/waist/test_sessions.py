"""Sessions: nothing is taken from who has not proved itself, and no recording is worth anything."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from random import Random

import pytest

from flc_udp.config import SEAL_BYTES
from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.waist import proved as proved_module
from flc_udp.waist import sessions as sessions_module
from flc_udp.waist.replay_window import AGE_US
from flc_udp.waist.sessions import Sessions
from flc_udp.wire import codec
from flc_udp.wire.packets import (
    FOR_MANY_KINDS,
    Ack,
    Cookie,
    Hello,
    Nack,
    Packet,
    Ping,
    Prune,
    Rumor,
)
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import FOR_ONE_BYTES, Seal, keyring, receiver_of

KEY, OTHER_KEY = bytes(range(32)), bytes(range(100, 132))
ROOT = bytes(8)
ACK = Ack(1, ROOT, ROOT, catching_up=False, held=0, wall=1_700_000_000_000)
PAYLOAD_BYTES = 1_400 - SEAL_BYTES

Datagram = tuple[bytes, Address, Address]
"""The bytes, from where, and to where."""


def ping(nonce: int) -> Ping:
    """A probe."""
    return Ping((1 << 40) + nonce, ROOT, ROOT, catching_up=False, log=ROOT)


class Party:
    """One node's sessions, at an address of a network of lists."""

    def __init__(self, net: Net, name: str, *, node: bytes = b"", key: bytes = KEY) -> None:
        self.net, self.name = net, name
        self.address = Address(f"10.0.0.{ord(name[0]) - 96}", 7352)
        self.node = NodeId(node or name.encode().ljust(8, b"-"))
        self.drops: Counter[Drop] = Counter()
        self.taken: list[Packet] = []
        self.start(key)

    def start(self, key: bytes = KEY) -> None:
        """Begin a run: nothing is remembered of the one before."""
        random = self.net.random
        self.seal = Seal(keyring((key,), "flc"), random.randbytes(16))
        fresh = random.randbytes
        self.sessions = Sessions(self.seal, self.node, fresh, self.drops, self.net.now)
        self.net.parties[self.address] = self

    def send(self, *packets: Packet, to: Iterable[Party]) -> None:
        """Seal and send."""
        ends = tuple(party.address for party in to)
        for datagram, addresses in self.sessions.sealed(ends, packets, PAYLOAD_BYTES):
            for address in addresses:
                self.net.put((datagram, self.address, address))

    def receive(self, datagram: bytes, source: Address) -> list[Packet]:
        """Take a datagram, and send what the handshake asks for."""
        now, sessions = self.net.now, self.sessions
        sessions.wake(now)
        packets: list[Packet] = []
        try:
            _, packets, _ = sessions.receive(datagram, source, now)
        except Malformed as error:
            self.drops[error.reason] += 1
            packets = []
        for sent, (to,) in sessions.answers(PAYLOAD_BYTES):
            self.net.put((sent, self.address, to))
        self.taken += packets
        return packets


class Net:
    """Datagrams on their way, and all that ever were."""

    def __init__(self) -> None:
        self.now = Micros(50 * SECOND_US)
        self.random = Random(1)
        self.parties: dict[Address, Party] = {}
        self.way: deque[Datagram] = deque()
        self.recorded: list[Datagram] = []

    def put(self, datagram: Datagram) -> None:
        """One more is on its way."""
        self.way.append(datagram)
        self.recorded.append(datagram)

    def carry(self, *, lose: Iterable[int] = ()) -> int:
        """Let everything arrive, but for those with these numbers; how many there were."""
        lost, number = set(lose), 0
        while self.way:
            datagram, source, to = self.way.popleft()
            if number not in lost and to in self.parties:
                self.parties[to].receive(datagram, source)
            number += 1
        return number

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now = Micros(self.now + round(seconds * SECOND_US))

    def kinds(self) -> list[list[str]]:
        """What is recorded, by kinds."""
        opener = Seal(keyring((KEY,), "flc"), bytes(16))
        return [
            [type(packet).__name__ for packet in codec.read(opener.open(datagram).payload)[1]]
            for datagram, *_ in self.recorded
        ]


def met() -> tuple[Net, Party, Party]:
    """Two nodes that have proved themselves to each other."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    net.carry()
    net.recorded.clear()
    for party in (ann, bob):
        party.taken.clear()
        party.drops.clear()
    return net, ann, bob


def replay(net: Net, recorded: Iterable[Datagram], source: Address | None = None) -> list[Packet]:
    """Send what was recorded once more, to where it went; what was taken of it."""
    taken = []
    for datagram, origin, to in recorded:
        taken += net.parties[to].receive(datagram, source or origin)
    return taken


# --- The handshake ------------------------------------------------------------------------------


def test_one_round_trip_proves_both_and_brings_what_was_said() -> None:
    """The dialogue of the module's docstring, datagram by datagram."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    assert net.carry() == 4
    assert net.kinds() == [["Ping"], ["Cookie"], ["Hello", "Cookie", "Ping"], ["Hello"]]
    assert bob.taken == [ping(1)]

    bob.send(ACK, to=[ann])
    ann.send(Prune(), to=[bob])
    assert net.carry() == 2
    assert (ann.taken, bob.taken) == ([ACK], [ping(1), Prune()])
    assert ann.drops + bob.drops == Counter({Drop.UNPROVED: 1})


@pytest.mark.parametrize("lost", range(4))
def test_the_loss_of_any_of_them_heals_with_the_next_probe(lost: int) -> None:
    """Whichever of the four it was, each hears the other after the next datagram of each."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    net.carry(lose=[lost])
    for nonce in (2, 3):
        net.wait(1)
        ann.send(ping(nonce), to=[bob])
        net.carry()
        bob.send(ACK, to=[ann])
        net.carry()
    assert bob.taken[-1] == ping(3)
    assert ann.taken[-1] == ACK


@pytest.mark.parametrize("restarted", ["ann", "bob"])
@pytest.mark.parametrize("speaker", ["ann", "bob"])
def test_a_restart_of_either_proves_again_in_one_round_trip(restarted: str, speaker: str) -> None:
    """Whoever speaks first. What it said is taken, at the latest once it was asked to prove."""
    net, ann, bob = met()
    who = {"ann": ann, "bob": bob}
    who[restarted].start()
    one, other = who[speaker], ann if who[speaker] is bob else bob
    one.send(ping(7), to=[other])
    assert net.carry() <= 4
    assert other.taken[-1] == ping(7)
    other.send(ACK, to=[one])
    net.carry()
    assert one.taken[-1] == ACK


def test_a_hello_without_a_proof_asks_for_a_cookie() -> None:
    """A program whose first words are short may ask before them. Later it changes nothing."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    for packets in ([Prune()], [Hello(ROOT, bytes(32))], [Prune()], [Hello(ROOT, bytes(32))]):
        ann.send(*packets, to=[bob])
        net.carry()
    assert net.kinds()[:5] == [["Prune"], ["Hello"], ["Cookie"], ["Hello", "Cookie"], ["Hello"]]
    assert net.kinds()[5:] == [["Prune"], ["Hello"]]
    assert bob.taken == [Prune(), Hello(ROOT, bytes(32))]


def test_both_may_begin_at_once() -> None:
    """Their handshakes cross, and end."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    bob.send(ping(2), to=[ann])
    assert net.carry() <= 10
    assert ping(1) in bob.taken
    assert ping(2) in ann.taken


def test_a_new_address_is_proved_and_the_old_one_stays() -> None:
    """A translator rebinds: what comes from there changes nothing before the proof."""
    net, ann, bob = met()
    old = ann.address
    ann.address = Address("192.0.2.9", 4_000)
    net.parties[ann.address] = ann
    ann.send(ping(2), to=[bob])
    net.carry()
    assert bob.taken[-1] == ping(2)
    bob.send(ACK, to=[ann])
    net.carry()
    assert ann.taken[-1] == ACK

    ann.address = old
    ann.send(ping(3), to=[bob])
    assert net.carry() == 1
    assert bob.taken[-1] == ping(3)


def test_visitors_prove_themselves_and_have_no_id() -> None:
    """Several of them, with the same zero id, live beside each other."""
    net = Net()
    bob = Party(net, "bob")
    visitors = [Party(net, name, node=VISITOR) for name in ("v", "w", "x", "y")]
    for nonce, visitor in enumerate(visitors):
        visitor.send(ping(nonce), to=[bob])
        net.carry()
    for nonce, visitor in enumerate(visitors, 10):
        visitor.send(ping(nonce), to=[bob])
    assert net.carry() == len(visitors)
    assert len(bob.taken) == 2 * len(visitors)


def test_a_change_of_the_key_asks_for_no_new_proof() -> None:
    """The session goes on under another key of the ring, and ends with the last of them."""
    net, ann, bob = met()
    both = keyring((KEY, OTHER_KEY), "flc")
    bob.seal.rekey(both)
    ann.seal.rekey(keyring((OTHER_KEY, KEY), "flc"))
    ann.send(ping(2), to=[bob])
    assert net.carry() == 1
    assert bob.taken == [ping(2)]

    bob.seal.rekey(keyring((KEY,), "flc"))
    ann.send(ping(3), to=[bob])
    net.carry()
    assert bob.taken == [ping(2)]
    assert bob.drops == Counter({Drop.KEY_UNKNOWN: 1})


# --- Recordings ---------------------------------------------------------------------------------


def test_nothing_recorded_is_taken_again() -> None:
    """From anywhere, in any order, before and after any restart, over a minute: no answer either.

    An answer would be a cookie, which is no longer than what drew it.
    """
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    for nonce in range(20):
        ann.send(ping(nonce), to=[bob])
        ann.send(Rumor(False, nonce, ()), to=[bob])
        bob.send(ACK, to=[ann])
        net.carry()
        net.wait(1)
    recorded = list(net.recorded)
    net.random.shuffle(recorded)
    spoofed = Address("203.0.113.5", 53)
    for _ in range(4):
        for source in (None, spoofed):
            before = len(net.recorded)
            assert replay(net, recorded, source) == []
            drawn = net.recorded[before:]
            assert sum(len(datagram) for datagram, *_ in drawn) <= sum(len(d) for d, *_ in recorded)
            assert all(kinds == ["Cookie"] for kinds in net.kinds()[before:])
        net.way.clear()
        net.wait(15)
        (bob if net.random.random() < 1 / 2 else ann).start()


def test_a_hello_of_a_session_that_was_let_go_is_worth_nothing() -> None:
    """Its MAC is good for a while, but its counter is too low: the window was remembered."""
    net = Net()
    bob = Party(net, "bob")
    recorded = []
    for _ in range(4):  # Each restart begins a session, and two of one node are kept.
        ann = Party(net, "ann")
        ann.send(ping(1), to=[bob])
        net.carry()
        ann.send(ping(2), to=[bob])
        net.carry()
        recorded += [found for found in net.recorded if found[2] == bob.address]
        net.recorded.clear()
        bob.taken.clear()
        net.wait(0.1)
    assert replay(net, recorded) == []
    assert bob.drops[Drop.HELLO_NOT_GOOD] == 2
    assert len(bob.sessions) == 2


def test_a_datagram_for_one_means_nothing_to_another() -> None:
    """What ann sent to bob and a recorder brings to cid, who knows ann too, is refused."""
    net, ann, bob = met()
    cid = Party(net, "cid")
    ann.send(ping(2), to=[cid])
    net.carry()
    net.recorded.clear()
    cid.taken.clear()
    ann.send(Prune(), to=[bob])
    ann.send(ping(3), to=[bob])
    for datagram, source, _ in net.recorded:
        assert cid.receive(datagram, source) == []
    assert cid.drops[Drop.RECEIVER_OTHER] == 2


def test_who_is_another_node_now_is_known_as_that_though_it_says_nothing_by_itself() -> None:
    """Bob took another id, and another session. Ann, who speaks to the former bob, learns it."""
    net, ann, bob = met()
    bob.node = NodeId(b"anew-bob")
    bob.sessions.is_now(bob.node)
    bob.sessions.renew(net.now)
    bob.taken.clear()
    for nonce in range(2):
        ann.send(ping(nonce), to=[bob])
        net.carry()

    assert bob.drops[Drop.RECEIVER_OTHER] == 1
    assert bob.taken == [ping(1)]


def test_an_address_is_of_who_was_heard_there_last() -> None:
    """Cid was at bob's address for a moment, and bob, in a session that ann knows, is back."""
    net, ann, bob = met()
    ann.send(ping(1), to=[bob])
    net.carry()
    bob.send(ping(2), to=[ann])
    net.carry()
    cid = Party(net, "cid")
    cid.address, net.parties[bob.address] = bob.address, cid
    cid.send(Prune(), to=[ann])
    cid.send(ping(3), to=[ann])
    net.carry()
    net.parties[bob.address] = bob
    net.wait(2)
    bob.send(ping(4), to=[ann])
    net.carry()
    bob.taken.clear()
    ann.send(ping(5), to=[bob])
    net.carry()

    assert ping(5) in bob.taken


def test_only_what_many_read_may_name_nobody() -> None:
    """A probe without a receiver is refused, though its sender is proved."""
    _, ann, bob = met()
    for packet in (ping(3), Rumor(False, 1, ()), Nack(1)):
        (payload,) = pack(ann.node, [packet], PAYLOAD_BYTES)
        taken = bob.receive(ann.seal.close(payload), ann.address)
        assert taken == ([packet] if type(packet) in FOR_MANY_KINDS else [])


def test_what_many_read_is_not_longer_and_what_one_reads_by_five_bytes() -> None:
    """That is what the receiver costs."""
    _, ann, bob = met()
    for packet, more in ((Rumor(False, 1, ()), 0), (ping(1), FOR_ONE_BYTES), (Prune(), 5)):
        (payload,) = pack(ann.node, [packet], PAYLOAD_BYTES)
        ((datagram, _),) = ann.sessions.sealed((bob.address,), (packet,), PAYLOAD_BYTES)
        assert len(datagram) == len(payload) + SEAL_BYTES + more


# --- Strangers, and those who have the key -----------------------------------------------------


def test_a_cookie_is_never_longer_than_what_drew_it() -> None:
    """What is too short draws none."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    for length in range(1, 60):
        ann.send(*[Prune()] * length, to=[bob])
        (drawing, source, _) = net.way.popleft()
        bob.receive(drawing, source)
        assert sum(len(datagram) for datagram, *_ in net.way) <= len(drawing)
        net.way.clear()
    assert ["Cookie"] in net.kinds()
    assert len(net.recorded) < 2 * 59


def test_the_answer_to_a_cookie_is_not_longer_but_for_what_was_said_there() -> None:
    """A rumor is not said again, so hello and cookie are all of it."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(Rumor(False, 1, (bytes(100),)), to=[bob])
    net.carry()
    assert net.kinds() == [["Rumor"], ["Cookie"], ["Hello", "Cookie"], ["Hello"]]
    sizes = [len(datagram) for datagram, *_ in net.recorded]
    assert sizes == sorted(sizes, reverse=True)


def test_a_cookie_is_answered_once_and_only_where_it_was_drawn() -> None:
    """Nobody can make this node send hellos to an address that it did not speak to."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    net.carry(lose=[2])
    cookies = [d for d, kinds in zip(net.recorded, net.kinds(), strict=True) if "Cookie" in kinds]
    net.recorded.clear()
    ann.receive(cookies[0][0], bob.address)  # It was answered already.
    ann.receive(cookies[0][0], Address("203.0.113.5", 53))
    assert net.recorded == []
    assert ann.drops[Drop.COOKIE_NOT_DRAWN] == 2

    net.wait(60)
    bob.start()
    (payload,) = pack(bob.node, [Cookie(1, ROOT, bytes(12))], PAYLOAD_BYTES)
    ann.receive(bob.seal.close(payload, receiver_of(ann.seal.session)), bob.address)
    assert net.recorded == []  # It was long ago.


@pytest.mark.parametrize("change", ["mac", "address", "late"])
def test_a_hello_with_another_mac_proves_nothing(change: str) -> None:
    """It is over the session, the address and the time."""
    net = Net()
    ann, bob = Party(net, "ann"), Party(net, "bob")
    ann.send(ping(1), to=[bob])
    datagram, source, _ = net.way.popleft()
    bob.receive(datagram, source)
    cookie = codec.read(ann.seal.open(net.way.popleft()[0]).payload)[1][0]
    assert isinstance(cookie, Cookie)
    hello, source = Hello(b"made up." if change == "mac" else cookie.mac), ann.address
    if change == "address":
        source = Address("203.0.113.5", 53)
    if change == "late":
        net.wait(2 * AGE_US / SECOND_US)
    (payload,) = pack(ann.node, [hello, ping(2)], PAYLOAD_BYTES)
    assert bob.receive(ann.seal.close(payload), source) == []
    assert bob.drops[Drop.HELLO_NOT_GOOD] == 1
    assert len(bob.sessions) == 0


def test_a_session_speaks_for_the_node_that_proved_it() -> None:
    """A holder of the key who names another node as the sender is not taken for it."""
    _, ann, bob = met()
    for packets in ([Rumor(False, 1, ())], [Hello(ROOT), ping(1)]):
        (payload,) = pack(b"mallory-", packets, PAYLOAD_BYTES)
        assert bob.receive(ann.seal.close(payload), ann.address) == []
    assert bob.drops[Drop.SENDER_NOT_OF_SESSION] == 2


def test_a_broken_seal_marks_nothing() -> None:
    """A forged datagram with the next counter does not stop the real one."""
    _, ann, bob = met()
    ((datagram, _),) = ann.sessions.sealed((bob.address,), (ping(2),), PAYLOAD_BYTES)
    assert bob.receive(datagram[:-1] + bytes((datagram[-1] ^ 1,)), ann.address) == []
    assert bob.receive(datagram, ann.address) == [ping(2)]
    assert bob.drops == Counter({Drop.SEAL_BROKEN: 1})


def test_unknown_sessions_have_a_budget_that_members_do_not_share() -> None:
    """A flood of them costs bounded work, and who this node speaks to is heard all the same."""
    net, ann, bob = met()
    ann.start()
    bob.send(ping(1), to=[ann])
    net.way.clear()
    for number in range(5_000):
        junk = bytes((1,)) + ann.seal.key_id + net.random.randbytes(24 + 60)
        bob.receive(junk, Address(f"198.51.{number >> 8 & 255}.{number & 255}", 9))
    refused = bob.drops[Drop.SESSIONS_TOO_MANY]
    assert refused + bob.drops[Drop.SEAL_BROKEN] == 5_000
    assert refused >= 5_000 - sessions_module.DERIVED_BURST
    ann.send(ping(2), to=[bob])
    net.carry()
    assert ping(2) in bob.taken


def test_so_many_sessions_are_proved_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was silent for the longest time is let go, and proves itself again."""
    monkeypatch.setattr(proved_module, "PROVED_MAX", 3)
    net = Net()
    bob = Party(net, "bob")
    others = [Party(net, name) for name in ("ann", "cid", "dan", "eve")]
    for other in others:
        other.send(ping(1), to=[bob])
        net.carry()
    assert len(bob.sessions) == 3
    others[0].send(ping(2), to=[bob])
    net.carry()
    assert bob.taken[-1] == ping(2)
    assert len(bob.sessions) == 3


# --- This node's own session --------------------------------------------------------------------


def test_it_is_renewed_each_day_and_long_before_its_counter_ends() -> None:
    """Then it proves itself anew, and nothing is lost for good."""
    net, ann, bob = met()
    for reason in ("a day", "many"):
        session = ann.seal.session
        if reason == "a day":
            net.wait(86_400)
        else:
            ann.seal.counter = sessions_module.COUNTER_MAX
        ann.sessions.wake(net.now)
        assert ann.seal.session != session
        assert ann.seal.counter == 0
        bob.taken.clear()
        ann.send(ping(5), to=[bob])
        net.carry()
        assert bob.taken == [ping(5)]


def test_a_copy_of_this_process_makes_it_take_another_session() -> None:
    """It is known by a counter that this process never used; own datagrams alone are no sign."""
    net, ann, bob = met()
    copy = Seal(ann.seal.ring, ann.seal.session)
    copy.counter = ann.seal.counter
    session = ann.seal.session
    ((own, _),) = ann.sessions.sealed((bob.address,), (Rumor(False, 0, ()),), PAYLOAD_BYTES)
    ann.receive(own, bob.address)
    ann.sessions.wake(net.now)
    assert ann.seal.session == session
    (payload,) = pack(ann.node, (Rumor(False, 0, ()),), PAYLOAD_BYTES)
    for _ in range(2):
        ann.receive(copy.close(payload), bob.address)
    ann.sessions.wake(net.now)
    assert ann.seal.session != session
    assert ann.drops[Drop.OWN_DATAGRAM] == 3


def test_whose_seals_break_is_known_by_session_and_address() -> None:
    """Only there is something wrong with a member; anybody else can write what he has seen."""
    net, ann, bob = met()
    ann.send(ping(1), to=[bob])
    ((datagram, source, _),) = net.way
    assert bob.sessions.is_proved(datagram, source)
    assert not bob.sessions.is_proved(datagram, Address("10.0.0.66", 7352))
    assert not bob.sessions.is_proved(datagram[:5] + bytes(16) + datagram[21:], source)


def test_garbage_from_a_members_address_keeps_it_not_out() -> None:
    """It starts again while somebody writes its address into a thousand datagrams a second."""
    net, ann, bob = met()
    head = ann.seal.close(b"")[:5]
    for address, at in ((ann.address, bob), (bob.address, ann)):
        for _ in range(1_000):
            at.receive(head + net.random.randbytes(60), address)
    ann.start()
    ann.send(ping(1), to=[bob])
    net.carry()
    assert bob.taken == [ping(1)]


def test_a_change_of_keys_is_followed_through_garbage() -> None:
    """Keys of sessions that are proved cost one derivation each, whatever else comes."""
    net, ann, bob = met()
    for party in (ann, bob):
        party.seal.rekey(keyring((KEY, OTHER_KEY), "flc"))
        party.sessions.wake(net.now)
    for _ in range(6_000):
        bob.receive(ann.seal.close(b"")[:5] + net.random.randbytes(60), ann.address)
    ann.seal.rekey(keyring((OTHER_KEY, KEY), "flc"))
    ann.send(ping(1), to=[bob])
    net.carry()
    assert bob.taken == [ping(1)]


def test_what_is_short_draws_no_longer_hello_and_none_often() -> None:
    """A datagram for another, from somebody who is proved."""
    net, ann, bob = met()
    cid = Party(net, "cid")
    ann.send(ping(2), to=[cid])
    net.carry()
    ann.send(Prune(), to=[bob])
    for nonce in range(3):
        ann.send(ping(nonce), to=[bob])
    datagrams = [datagram for datagram, *_ in net.way]
    net.way.clear()
    drawn = []
    for datagram in datagrams:
        cid.receive(datagram, ann.address)
        drawn.append([len(answer) for answer, *_ in net.way])
        net.way.clear()
    assert [len(answers) for answers in drawn] == [0, 1, 0, 0]
    assert drawn[1][0] <= sessions_module.ASK_BYTES <= len(datagrams[1])


def test_a_recorded_cookie_takes_nothing_from_the_budget_of_hellos() -> None:
    """It is due no more, and whoever starts again gets its cookies answered."""
    net, ann, bob = met()
    ann.start()
    ann.send(ping(1), to=[bob])
    net.carry()
    cookies = [
        found for found in net.recorded if found[2] == ann.address and found[1] == bob.address
    ]
    for _ in range(3_000):
        for datagram, source, _to in cookies:
            ann.receive(datagram, source)
    bob.start()
    bob.taken.clear()
    ann.send(ping(2), to=[bob])
    net.carry()
    assert ping(2) in bob.taken
