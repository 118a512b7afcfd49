"""Sessions: whose datagrams are taken. Each sender proves its address, and that it speaks now.

    a (new here)                                             b
      │ ping, as datagram 7 ───────────────────────────────▶ │  authentic, but not proved: dropped
      │ ◀───────────────────── cookie(7, MAC), as datagram 3 │  not longer than the ping
      │ hello(MAC), cookie(3, MAC), the ping again ────────▶ │  a is proved: the ping is taken
      │ ◀─────────────────────────────── hello(MAC), the ack │  b is proved, too

The key shows that a datagram comes from the cluster, and no more. It may have been recorded, and it
may come from an address that somebody else wrote into it. So a datagram changes nothing until its
sender has answered from that address, in its present session (after RFC 9000, section 8, and RFC
9147, section 5.1).

Rules. A *cookie* names the counter of the datagram that drew it. Its MAC is over the session, the
address and the time, under a secret of this run, so nothing is kept until it comes back. It is not
longer than what drew it. A cookie is answered only if this node sent that counter to that address
in the last seconds, and once. A *hello* with the right MAC proves. Its counter is the floor of the
session's window, so no older recording is ever taken (`replay_window`). If what drew the cookie was
about liveness, it goes out again with the hello.

A datagram for one node names its receiver, and others refuse it (`wire/seal`). Only kinds that many
read may go without. The receiver of a cookie is the session that drew it. This node's own session
is renewed each day, long before its counter could end, with another id, and when a datagram of it
comes that it never sent: then another process is a copy of this one. Whoever names another receiver
is asked for a cookie, and so learns from the proof who is here.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flc_udp.config import HASH_BYTES
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import Drop, Malformed
from flc_udp.model.units import SECOND_US, Micros
from flc_udp.waist.proved import Proved, ProvedSessions
from flc_udp.waist.replay_window import AGE_US
from flc_udp.waist.sent import TURN_US, Sent
from flc_udp.waist.token_bucket import TokenBucket
from flc_udp.wire import codec
from flc_udp.wire.packets import FOR_MANY_KINDS, Cookie, Hello, Packet
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import (
    COUNTER_AT,
    FOR_ONE,
    FOR_ONE_BYTES,
    HEADER_BYTES,
    KEY_ID_AT,
    SESSION_AT,
    SESSION_BYTES,
    Opened,
    Seal,
    check_envelope,
    opened_of,
    receiver_of,
    unseal,
)

COOKIE_BYTES = 94
"""A cookie has at most this length. What is shorter draws none, and no probe is shorter."""

HEARD_US = SECOND_US
"""Which session was silent for the longest time is known to the second."""

ASKS = bytes(HASH_BYTES)
ASKS_FOR_COOKIE = Hello(ASKS, bytes(24))
"""A hello with this MAC asks for a cookie, and with this padding it is long enough to draw one."""

ASK_BYTES = 96
"""Such a hello is not longer. What is shorter does not draw it."""

ASKED_MAX = 1_024
"""When so many addresses were asked for a cookie last is remembered."""

PADDING_BYTES = 14
"""A cookie is padded so that the answer to it, which may have a cookie besides a hello, is no
longer."""

COOKIES_A_SECOND = 1_000
"""A cookie costs about 15 µs, so a flood that draws them takes a sixtieth of a core."""

DERIVED_A_SECOND = 500
DERIVED_BURST = 1_000
"""The keys of so many unknown sessions are derived. Each takes 10 µs."""

DERIVED_A_SOURCE = 16
"""So many of them a second may come from one address, unless this node speaks to it."""

DERIVED_OF_KNOWN = 5_000
"""So many a second for all addresses that this node speaks to. Anybody can write these into his
datagrams, and a member that starts again must get through between them."""

SOURCES_MAX = 4_096
"""The keys of sessions from so many addresses are derived in one second."""

MET_MAX = 1_024
"""The keys of so many sessions are remembered that are authentic and not proved."""

RENEWED_US = 86_400 * SECOND_US
COUNTER_MAX = 1 << 32
"""A session ends after a day, or after so many datagrams (NIST SP 800-38D, section 8.3)."""


class Answer(NamedTuple):
    """A cookie or a hello, which is sent to one address."""

    to: Address
    packets: tuple[Packet, ...]
    receiver: bytes


class Sessions:
    """Opens what comes in and seals what goes out."""

    def __init__(
        self,
        seal: Seal,
        me: NodeId,
        fresh_bytes: Callable[[int], bytes],
        drops: Counter[Drop],
        now: Micros,
    ) -> None:
        """`me` is this node's id, and `fresh_bytes` gives so many bytes that nobody can guess."""
        self.is_now(me)
        self._answers: list[Answer] = []
        self._seal = seal
        self._ring = seal.ring
        self._fresh_bytes = fresh_bytes
        self._drops = drops
        self._secret = fresh_bytes(SESSION_BYTES)
        self._proved = ProvedSessions()
        self._sent = Sent()
        self._met: OrderedDict[bytes, AESGCM] = OrderedDict()
        # Whoever this node speaks to has budgets apart from strangers, who may be a flood.
        self._greetings, self._cookies, self._cookies_of_strangers = (
            TokenBucket(COOKIES_A_SECOND, COOKIES_A_SECOND, now) for _ in range(3)
        )
        self._derived = TokenBucket(DERIVED_OF_KNOWN, DERIVED_OF_KNOWN, now)
        self._derived_of_strangers = TokenBucket(DERIVED_A_SECOND, DERIVED_BURST, now)
        self._derived_from: Counter[Address] = Counter()
        self._asked: dict[Address, Micros] = {}
        self._derived_in = 0
        """The second that `derived_from` is about."""
        self._turns_at = now + TURN_US
        self._renews_at = now + RENEWED_US
        self._is_copied = False

    def __len__(self) -> int:
        return len(self._proved)

    def addresses(self) -> Iterator[Address]:
        """The addresses that are proved, those that were heard last first."""
        return self._proved.addresses()

    def is_proved(self, datagram: bytes, source: Address) -> bool:
        """Whether its header is of a session that has proved itself from there."""
        proved = self._proved.get(datagram[SESSION_AT:COUNTER_AT])
        return proved is not None and source in proved.addresses

    @property
    def key_ids(self) -> Iterable[bytes]:
        """The ids of the cluster's keys that this node has."""
        return self._seal.keys

    def is_now(self, me: NodeId) -> None:
        """This node has this id from now on."""
        self.me, self._receiver = me, receiver_of(me)

    # --- What comes in ----------------------------------------------------------------------------

    def receive(
        self, datagram: bytes, source: Address, now: Micros
    ) -> tuple[NodeId, list[Packet], int]:
        """Open and read a datagram: (sender, packets, number of packets of unknown kinds).

        Raises Malformed if it is not to be taken.
        """
        check_envelope(datagram)
        header = datagram[:HEADER_BYTES]
        session = header[SESSION_AT:COUNTER_AT]
        proved = self._proved.get(session)
        # An address is mostly the same object, because `address.fold` remembers it.
        if proved is None or (source is not proved.address and source not in proved.addresses):
            return self._meet(datagram, source, proved, now)
        counter, window = int.from_bytes(header[COUNTER_AT:], "big"), proved.window
        if now >= window.ages_at:
            window.age(now)
        if counter <= window.top and not window.is_new(counter):
            raise Malformed(Drop.REPLAYED, COUNTER_AT)
        cipher = proved.ciphers.get(header[KEY_ID_AT:SESSION_AT])
        payload = unseal(cipher or self._cipher_of(proved, header), header, datagram)
        window.mark(counter)
        if now - proved.heard_at > HEARD_US:
            self._proved.heard(session, proved, source, now)
        receiver = b""
        if payload[0] == FOR_ONE:
            receiver, payload = payload[1:FOR_ONE_BYTES], payload[FOR_ONE_BYTES:]
        sender, packets, unknown = codec.read(payload)
        if sender != proved.node:
            raise Malformed(Drop.SENDER_NOT_OF_SESSION)
        if receiver != self._receiver:
            opened = Opened(payload, receiver, header[KEY_ID_AT:SESSION_AT], session, counter)
            self._take_if_for_many(packets, opened, source, len(datagram), now)
        return sender, packets, unknown

    def _take_if_for_many(
        self, packets: list[Packet], opened: Opened, source: Address, size_bytes: int, now: Micros
    ) -> None:
        """Raise Malformed if packets that do not name this node are not what many may read.

        Then their sender takes this node for another one: a hello, which many may read, sets that
        right. A cookie names the session that drew it; it is answered, and taken out.
        """
        is_named = bool(opened.receiver)
        if packets and isinstance(packets[0], Cookie):
            self._answer_cookie(packets[0], opened, source, now, is_proved=True)
            del packets[0]
            is_named = False
        is_for_one = not FOR_MANY_KINDS.issuperset(map(type, packets))
        if is_for_one and size_bytes >= ASK_BYTES and self._may_ask(source, now):
            self._answers.append(Answer(source, (ASKS_FOR_COOKIE,), b""))
        if is_named or is_for_one:
            raise Malformed(Drop.RECEIVER_OTHER)

    def _may_ask(self, source: Address, now: Micros) -> bool:
        """Whether this address may be asked for a cookie: once a second."""
        if now - self._asked.get(source, now - SECOND_US) < SECOND_US:
            return False
        self._asked.pop(source, None)
        self._asked[source] = now
        if len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        return True

    def _cipher_of(self, proved: Proved, header: bytes) -> AESGCM:
        key_id = header[KEY_ID_AT:SESSION_AT]
        cipher = proved.ciphers.get(key_id)
        if cipher is None:  # Its cluster key was changed. There are no more keys than in the ring.
            if key_id not in self._seal.keys:
                raise Malformed(Drop.KEY_UNKNOWN, KEY_ID_AT)
            cipher = self._seal.cipher_of(key_id, header[SESSION_AT:COUNTER_AT])
            proved.ciphers[key_id] = cipher
        return cipher

    def _meet(
        self, datagram: bytes, source: Address, proved: Proved | None, now: Micros
    ) -> tuple[NodeId, list[Packet], int]:
        """Take a datagram of a session or an address that is not proved, if it proves them."""
        opened = self._open(datagram, source, proved, now)
        sender, packets, unknown = codec.read(opened.payload)
        is_proved = False
        match packets:
            case [Hello() as hello, *packets] if hello.mac != ASKS:
                self._greet(hello, opened, sender, source, now)
                is_proved = True
        match packets:
            case [Cookie() as cookie, *packets]:
                self._answer_cookie(cookie, opened, source, now, is_proved=is_proved)
                if not packets:
                    return sender, packets, unknown
        if not is_proved:
            self._draw_cookie(opened, source, len(datagram), now)
            raise Malformed(Drop.UNPROVED, COUNTER_AT)
        return sender, packets, unknown

    def _open(self, datagram: bytes, source: Address, proved: Proved | None, now: Micros) -> Opened:
        header = datagram[:HEADER_BYTES]
        session = header[SESSION_AT:COUNTER_AT]
        if session == self._seal.session:
            self._refuse_own(datagram)
        if proved is None:
            return self._open_unproved(datagram, header[KEY_ID_AT:SESSION_AT], session, source, now)
        if not proved.window.is_new(int.from_bytes(header[COUNTER_AT:], "big")):
            raise Malformed(Drop.REPLAYED, COUNTER_AT)
        return opened_of(self._cipher_of(proved, header), datagram)

    def _open_unproved(
        self, datagram: bytes, key_id: bytes, session: bytes, source: Address, now: Micros
    ) -> Opened:
        who = key_id + session
        cipher = self._met.get(who) or self._derive(key_id, session, source, now)
        opened = opened_of(cipher, datagram)
        self._met[who] = cipher
        if len(self._met) > MET_MAX:
            self._met.popitem(last=False)
        return opened

    def _derive(self, key_id: bytes, session: bytes, source: Address, now: Micros) -> AESGCM:
        if key_id not in self._seal.keys:
            raise Malformed(Drop.KEY_UNKNOWN, KEY_ID_AT)
        may = self._derived.take(now) if source in self._sent else self._may_derive(source, now)
        if not may:
            raise Malformed(Drop.SESSIONS_TOO_MANY, SESSION_AT)
        return self._seal.cipher_of(key_id, session)

    def _may_derive(self, source: Address, now: Micros) -> bool:
        """Whether the key of one more session is derived for a stranger."""
        if now // SECOND_US != self._derived_in:
            self._derived_in = now // SECOND_US
            self._derived_from.clear()
        used = self._derived_from[source]
        if used >= DERIVED_A_SOURCE or len(self._derived_from) > SOURCES_MAX:
            return False
        self._derived_from[source] = used + 1
        return self._derived_of_strangers.take(now)

    def _refuse_own(self, datagram: bytes) -> None:
        """A datagram of this node's own session came. It was sent by it, or by a copy of it."""
        opened = self._seal.open(datagram)
        if opened.counter > self._seal.counter:
            self._is_copied = True
        raise Malformed(Drop.OWN_DATAGRAM, SESSION_AT)

    # --- The handshake ----------------------------------------------------------------------------

    def _mac(self, session: bytes, source: Address, epoch: int) -> bytes:
        told = session + epoch.to_bytes(8, "big", signed=True) + str(source).encode()
        return blake2b(told, key=self._secret, digest_size=HASH_BYTES).digest()

    def _cookie(self, opened: Opened, source: Address, now: Micros) -> Cookie:
        return Cookie(opened.counter, self._mac(opened.session, source, now // AGE_US))

    def _draw_cookie(self, opened: Opened, source: Address, size_bytes: int, now: Micros) -> None:
        budget = self._cookies if source in self._sent else self._cookies_of_strangers
        if size_bytes >= COOKIE_BYTES and budget.take(now):
            # It is so long that the answer, which may have a cookie besides a hello, is no longer.
            cookie = self._cookie(opened, source, now)._replace(padding=bytes(PADDING_BYTES))
            self._answers.append(Answer(source, (cookie,), receiver_of(opened.session)))

    def _answer_cookie(
        self, cookie: Cookie, opened: Opened, source: Address, now: Micros, *, is_proved: bool
    ) -> None:
        seal, again = self._seal, None
        # The counters of a former session of this node say nothing about the present one.
        if opened.receiver == receiver_of(seal.session):
            again = self._sent.answer(cookie.counter, source, seal.counter)
        # A recorded cookie that is due no more takes nothing from the budget.
        if again is None or not self._greetings.take(now):
            self._drops[Drop.COOKIE_NOT_DRAWN] += 1
            return
        own = () if is_proved else (self._cookie(opened, source, now),)
        packets = (Hello(cookie.mac), *own, *again)
        self._answers.append(Answer(source, packets, receiver_of(opened.session)))

    def _greet(
        self, hello: Hello, opened: Opened, sender: NodeId, source: Address, now: Micros
    ) -> None:
        """A hello came: its sender is proved if it is good; raises Malformed if not."""
        session, epoch = opened.session, now // AGE_US
        macs = [self._mac(session, source, at) for at in (epoch, epoch - 1)]
        is_good = any(compare_digest(mac, hello.mac) for mac in macs)
        is_new = opened.counter > self._proved.counter_of(session)
        if not is_good or not is_new or not self._greetings.take(now):
            raise Malformed(Drop.HELLO_NOT_GOOD)
        proved = self._proved.get(session)
        if proved is None:
            cipher = self._met.pop(opened.key_id + session)
            proved = self._proved.add(opened, cipher, sender, now)
        elif proved.node != sender:
            raise Malformed(Drop.SENDER_NOT_OF_SESSION)
        else:
            proved.window.mark(opened.counter)
        self._proved.add_address(proved, source)

    # --- What goes out ----------------------------------------------------------------------------

    def sealed(
        self, to: tuple[Address, ...], packets: tuple[Packet, ...], payload_bytes_max: int
    ) -> Iterator[tuple[bytes, tuple[Address, ...]]]:
        """Pack and seal packets: (datagram, the addresses that it goes to), one after another."""
        if FOR_MANY_KINDS.issuperset(map(type, packets)):
            yield from self._sealed(to, packets, b"", payload_bytes_max)
            return
        for address in to:
            receiver = receiver_of(self._proved.node_at(address) or b"")
            yield from self._sealed((address,), packets, receiver, payload_bytes_max)

    def drew_cookies(self) -> Iterator[Address]:
        """Who is to be sent a cookie now, and has not been proved."""
        return (to for to, (first, *_), _ in self._answers if isinstance(first, Cookie))

    def answers(self, payload_bytes_max: int) -> Iterator[tuple[bytes, tuple[Address, ...]]]:
        """Seal the cookies and hellos that are to be sent now, as `sealed` does."""
        answers, self._answers = self._answers, []
        for to, packets, receiver in answers:
            yield from self._sealed((to,), packets, receiver, payload_bytes_max)

    def _sealed(
        self,
        to: tuple[Address, ...],
        packets: tuple[Packet, ...],
        receiver: bytes,
        payload_bytes_max: int,
    ) -> Iterator[tuple[bytes, tuple[Address, ...]]]:
        budget_bytes = payload_bytes_max - (FOR_ONE_BYTES if receiver else 0)
        for payload in pack(self.me, packets, budget_bytes):
            datagram = self._seal.close(payload, receiver)
            self._sent.add(self._seal.counter, to, packets)
            yield datagram, to

    # --- Time -------------------------------------------------------------------------------------

    def wake(self, now: Micros) -> None:
        """Follow a change of keys, and renew this node's session if it is time."""
        if now >= self._turns_at:
            self._turns_at = now + TURN_US
            self._proved.forget_gone()
            self._sent.turn_over(self._seal.counter)
        if self._ring is not self._seal.ring:
            self._ring = self._seal.ring
            self._met.clear()
            self._proved.keep_keys(self._seal.keys)
        if self._is_copied or now >= self._renews_at or self._seal.counter >= COUNTER_MAX:
            self.renew(now)

    def renew(self, now: Micros) -> None:
        """Go on in a new session, which proves itself wherever it is heard."""
        self._seal.renew(self._fresh_bytes(SESSION_BYTES))
        self._is_copied, self._renews_at = False, now + RENEWED_US
        self._sent = Sent()
