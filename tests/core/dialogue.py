"""Replicas and a link between them, so that a test reads as a dialogue.

    talk = Talk("ann", "bob")
    talk.meet()
    talk.lose(Rumor)
    talk.say("ann", "hi")
    talk.settle()

Time is virtual and starts at 0; a datagram takes LATENCY. Everything that is sent goes through
packing and codec, as on the wire. A party's disk is a list, and it commits at once unless
`commits_alone` is unset. What every party says of itself is checked against its disk, always.

Rules. A test looks at a party through its `facts`, its `notices`, and what it sent and showed; it
moves it by the verbs of `Replica`, some of which have a short form here. It never reaches inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import reduce
from heapq import heappop, heappush
from operator import xor
from random import Random
from typing import TypeVar

from flc_udp.config import Settings
from flc_udp.core.effects import (
    Adopt,
    Append,
    Deliver,
    Effect,
    Send,
    StreamBase,
    StreamReplay,
)
from flc_udp.core.facts import Facts, MemberFacts
from flc_udp.core.liveness.members import alive_row
from flc_udp.core.notices import MemberChanged
from flc_udp.core.push.receipts import Wait
from flc_udp.core.replica import Replica
from flc_udp.core.standing import NO_LOG, log_hash
from flc_udp.model.address import Address
from flc_udp.model.block import Block, decode, pack_body
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.model.errors import Drop
from flc_udp.model.history import Head
from flc_udp.model.message import history_key
from flc_udp.model.notices import Notice
from flc_udp.model.tags import Tags, parse_tags
from flc_udp.waist.replays import Replays
from flc_udp.wire import codec
from flc_udp.wire.packets import Ack, Digest, Have, Packet, Ping, Receipt, Rumor
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import MemberRow, State
from tests.model.kept import KeptInList, history_of

MS = 1_000
LATENCY = MS
WALL = 1_700_000_000_000
PAYLOAD_BYTES = 1_355
Kind = TypeVar("Kind", bound=Notice)

STEPS_MAX = 100
"""More steps in one moment are a loop."""


class Party:
    """One replica with its disk; `shown` are the bodies it showed, in order."""

    def __init__(self, talk: Talk, name: str, number: int, settings: Settings) -> None:
        self.talk = talk
        self.name = name
        self.first_id = bytes([number]) * 8
        self.address = Address(f"10.0.0.{number}", 7352)
        self.settings = settings
        self.disk: list[Block] = []
        self.pending: list[Block] = []
        self.commits_alone = True
        self.tags: Tags = ()
        self.reads: Callable[[Packet], Packet] = lambda packet: packet
        """What it makes of each packet that it receives."""
        self.forked: set[LogId] = set()
        """Logs of which it may have refused a branch that others keep."""
        self.lives = True
        self.lives_lived = 0
        self.shown: list[str | bytes] = []
        self.notices: list[Notice] = []
        self.start()

    def start(self, boot: int | None = None, incarnation: int | None = None) -> None:
        """Begin a run: all there is of the former ones is the disk."""
        self.lives_lived += 1
        self.lives = True
        self.pending = []
        me = alive_row(
            self.first_id,
            incarnation or self.lives_lived * 100,
            self.address,
            self.name,
            boot or self.lives_lived,
            self.tags,
        )
        random = Random(f"{self.talk.seed} {self.name} {self.lives_lived}")
        reads, drops = KeptInList(self.disk), Counter[Drop]()
        self.replays = Replays(reads, self.settings.pull_credit_bytes, drops, Counter())
        self.replica = Replica(self.settings, me, history_of(self.disk), random, self.talk.now)

    # --- What may be seen of it -----------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """What its replica lets everybody see."""
        return self.replica.facts(self.talk.now)

    @property
    def me(self) -> MemberRow:
        """What it says of itself."""
        return self.replica.me

    @property
    def id(self) -> NodeId:
        """Its node id, which a clone of it may make it change."""
        return self.replica.me.id

    @property
    def has_left(self) -> bool:
        """Whether it was told to leave, and may stop."""
        return self.replica.has_left(self.talk.now)

    def told(self, kind: type[Kind]) -> list[Kind]:
        """The notices of one kind that it told people, in order."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    def told_of(self, kind: type[MemberChanged]) -> list[str]:
        """The members that notices of one kind were about, in order."""
        return [notice.member for notice in self.told(kind)]

    def member(self, other: str) -> MemberFacts | None:
        """What this party knows of another; None where it does not know it."""
        node = self.talk[other].id
        return next((member for member in self.facts.members if member.row.id == node), None)

    def believes(self, other: str) -> State:
        """The state that this party holds another to be in."""
        member = self.member(other)
        assert member is not None
        return member.row.state

    def tags_of(self, other: str) -> Tags | None:
        """The tags that it holds another to have; None where it does not know it."""
        member = self.member(other)
        return None if member is None else member.row.tags

    # --- What happens to it ---------------------------------------------------------------------

    def hear(self, teller: Party, *packets: Packet, sender: NodeId | None = None) -> None:
        """Packets come from another party, under its id unless another one is given.

        What follows from them is carried out with the party's next turn.
        """
        node = teller.id if sender is None else sender
        self.replica.receive(packets, node, teller.address, self.talk.wall, self.talk.now)

    def spend_news(self) -> None:
        """Everybody knows what it knows of members, so its probes carry none of that."""
        self.replica.acquaint((), self.talk.now)

    def watch(self, block: Block, needed: int | None = None, *, seq: int | None = None) -> Wait:
        """Wait until others hold a block of its own, or this message of it."""
        return self.replica.watch(Dot(block.log, seq or block.last), needed, self.talk.now, [])

    def end_turn(self) -> list[Effect]:
        """What it has decided, not carried out."""
        return self.replica.end_turn(self.talk.now)

    def history(self) -> list[str | bytes]:
        """Bodies in the converged order."""
        said = (message for block in self.disk for message in block.messages())
        return [message.body for message in sorted(said, key=history_key)]

    @property
    def last_position(self) -> int:
        """How many messages are on its disk."""
        return sum(len(block.bodies) for block in self.disk)

    def commit(self) -> None:
        """Everything that waits for the disk becomes durable."""
        batch, self.pending = self.pending, []
        first_position = self.last_position + 1
        self.disk += batch
        self.replica.committed(tuple(batch), first_position, self.talk.now)
        self.carry_out()

    def fail_commit(self) -> None:
        """The disk refused what waits for it."""
        self.pending = []
        self.replica.rebuild(history_of(self.disk), self.talk.now)
        self.carry_out()

    def carry_out(self) -> None:
        """Commit, send, show."""
        for effect in self.end_turn():
            self._do(effect)
        while self.replays:
            for to, packets in self.replays.answers():
                self.talk.send(self, (to,), packets)
        if self.pending and self.commits_alone:
            self.commit()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Append(blocks):
                self._check_closed(blocks)
                self.pending += blocks
            case Send(to, packets):
                self._check_honest(packets)
                self.talk.send(self, to, packets)
            case StreamReplay() | StreamBase():
                self.replays.add(effect)
            case Adopt():
                raise AssertionError("nothing is ever pruned here")
            case Deliver(position, blocks):
                assert tuple(self.disk[len(self.disk) - len(blocks) :]) == blocks
                assert effect.last == self.last_position
                bodies = [body for block in blocks for body in block.bodies]
                assert position + len(bodies) == self.last_position + 1
                self.shown += bodies
            case Notice():
                self.notices.append(effect)

    # --- What must hold in every dialogue ---------------------------------------------------

    def _check_closed(self, blocks: Iterable[Block]) -> None:
        """What is to be kept stands after its predecessor and its causes."""
        heads = {block.log: block.last for block in (*self.disk, *self.pending)}
        for block in blocks:
            assert block.first == heads.get(block.log, 0) + 1
            causes = [cause for cause in block.causes if cause.log not in self.forked]
            assert all(cause.seq <= heads.get(cause.log, 0) for cause in causes)
            heads[block.log] = block.last

    def _check_honest(self, packets: Iterable[Packet]) -> None:
        """Nothing of its own leaves before its commit; it claims to hold what is durable only."""
        heads = {block.log: Head(block.last, block.hash, 0) for block in self.disk}
        for packet in packets:
            match packet:
                case Rumor():
                    own = self.replica.log
                    blocks = map(decode, packet.blocks)
                    assert all(b.log != own or b.last <= heads[own].seq for b in blocks)
                case Digest():
                    assert all((heads[r.log].seq, heads[r.log].hash) == r[1:] for r in packet.rows)
                case Have(_, dots):
                    assert all(dot.seq <= heads[dot.log].seq for dot in dots)
                case Receipt(log, seq):
                    assert seq <= heads[log].seq
                case Ping() | Ack():
                    hashes = (log_hash(log, head) for log, head in heads.items())
                    assert reduce(xor, hashes, 0).to_bytes(8, "big") == packet.root
                    if isinstance(packet, Ping) and packet.log != NO_LOG:
                        assert packet.log in heads or self.pending
                case _:
                    pass


Lost = Callable[[Party, Party, list[Packet]], bool]


class Talk:
    """Parties by name, the clock, and the link between them."""

    def __init__(self, *names: str, seed: int = 0, **settings: int) -> None:
        self.seed = seed
        self.now = 0
        self.wall_shift = 0
        """How far everybody's wall clock was set ahead, in ms."""
        self.settings = Settings(**settings)
        self.sent: Counter[str] = Counter()
        self.heard: list[tuple[str, str, Packet]] = []
        self._lost: list[Lost] = []
        self._flying: list[tuple[int, int, Party, Party, bytes]] = []
        self._serial = 0
        self._parties = {
            name: Party(self, name, number, self.settings) for number, name in enumerate(names, 1)
        }

    def __getitem__(self, name: str) -> Party:
        return self._parties[name]

    @property
    def wall(self) -> int:
        """Everybody's wall clock, in ms since 1970."""
        return WALL + self.wall_shift + self.now // MS

    @property
    def parties(self) -> list[Party]:
        """Those that live."""
        return [party for party in self._parties.values() if party.lives]

    # --- What happens -----------------------------------------------------------------------

    def meet(self) -> None:
        """All join the first and come to know each other."""
        first, *others = self.parties
        for party in others:
            self.join(party.name, first.name)
        self.settle()

    def join(self, name: str, *seeds: str) -> None:
        """One asks others to be let in."""
        party = self[name]
        party.replica.join([self[seed].address for seed in seeds], self.now)
        party.carry_out()

    def leave(self, name: str) -> None:
        """One begins to go in order."""
        party = self[name]
        party.replica.leave(self.now)
        party.carry_out()

    def say(
        self, name: str, body: str | bytes, room: str = "lobby", *more: str | bytes, **how: bool
    ) -> Block:
        """Somebody says one message, or more in one block; it is on its way when committed."""
        party = self[name]
        packed = [pack_body(body) for body in (body, *more)]
        block = party.replica.post(room, name, packed, self.wall, **how)
        assert len(block.bodies) == len(packed)
        party.carry_out()
        return block

    def kill(self, name: str) -> None:
        """The process ends; its disk stays."""
        self[name].lives = False

    def restart(self, name: str, seed: str | None = None) -> None:
        """A new run on the old disk, which asks one address it remembers."""
        party = self[name]
        party.start()
        if seed is not None:
            self.join(name, seed)
        party.carry_out()

    def tag(self, name: str, *texts: str) -> None:
        """Its operator gives it other tags, for its later runs too."""
        party = self[name]
        party.tags = parse_tags(texts)
        party.replica.retag(party.tags, self.now)
        party.carry_out()

    def stall(self, name: str, ms: int) -> None:
        """It stands still for so long: it neither runs nor hears, and then notices."""
        party = self[name]
        due = party.replica.wake_at
        party.lives = False
        self.run(ms)
        party.lives = True
        if due < self.now:
            party.replica.stalled(ms * MS, self.now)

    # --- The link ---------------------------------------------------------------------------

    def drop(self, lost: Lost) -> None:
        """Lose datagrams for which this is true."""
        self._lost.append(lost)

    def lose(self, *kinds: type[Packet]) -> None:
        """Lose every datagram that carries a packet of these kinds."""
        self.drop(lambda _a, _b, packets: any(isinstance(p, kinds) for p in packets))

    def cut(self, *names: str) -> None:
        """Nothing passes between these and the others."""
        island = set(names)
        self.drop(lambda a, b, _: (a.name in island) != (b.name in island))

    def heal(self) -> None:
        """The link loses nothing any more."""
        self._lost.clear()

    def send(self, sender: Party, to: Iterable[Address], packets: Iterable[Packet]) -> None:
        """Put packets on the link, as payloads."""
        packets = tuple(packets)
        payloads = pack(sender.id, packets, PAYLOAD_BYTES)
        for address in to:
            self.sent.update(type(packet).__name__ for packet in packets)
            for party in self._parties.values():
                if party.address == address:
                    for payload in payloads:
                        self._serial += 1
                        flight = (self.now + LATENCY, self._serial, sender, party, payload)
                        heappush(self._flying, flight)

    # --- Time -------------------------------------------------------------------------------

    def run(self, ms: int) -> None:
        """Let so much time pass."""
        until = self.now + ms * MS
        moment, steps = self.now, 0
        while self._step(until):
            moment, steps = self.now, steps + 1 if moment == self.now else 0
            assert steps < STEPS_MAX, "a loop: the same moment again and again"
        self.now = until

    def settle(self, ms: int = 120_000) -> None:
        """Let time pass until all that live agree on messages and members."""
        until = self.now + ms * MS
        while self.now < until:
            self.run(50)
            if self.agree():
                return
        raise AssertionError(f"no agreement after {ms} ms: {self.picture()}")

    def agree(self) -> bool:
        """Whether all that live hold the same messages, members, and nothing waits."""
        facts = [party.facts for party in self.parties]
        roots = {(each.root, each.members_root) for each in facts}
        waits = any(each.repair.holdback_messages or each.uncommitted for each in facts)
        return len(roots) == 1 and not waits and not self._flying

    def picture(self) -> dict[str, object]:
        """Where everybody stands, for a failing test's report."""
        return {p.name: ([str(b.dot) for b in p.disk], p.facts) for p in self.parties}

    def _step(self, until: int) -> bool:
        flight = self._flying[0][0] if self._flying else until + 1
        wake = min((party.replica.wake_at for party in self.parties), default=until + 1)
        at = min(flight, max(wake, self.now))
        if at > until:
            return False
        self.now = at
        touched: dict[str, Party] = {}
        while self._flying and self._flying[0][0] <= at:
            _, _, sender, party, payload = heappop(self._flying)
            if self._receive(sender, party, payload):
                touched[party.name] = party
        for party in self.parties:
            if party.replica.wake_at <= at:
                party.replica.wake(at)
                touched[party.name] = party
        for party in touched.values():
            party.carry_out()
        return True

    def _receive(self, sender: Party, party: Party, payload: bytes) -> bool:
        node, packets, unknown = codec.read(payload)
        assert unknown == 0
        if not party.lives or any(lost(sender, party, packets) for lost in self._lost):
            return False
        packets = list(map(party.reads, packets))
        self.heard += [(sender.name, party.name, packet) for packet in packets]
        party.replica.receive(packets, node, sender.address, self.wall, self.now)
        return True
