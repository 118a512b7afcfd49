"""Every packet of the protocol, with the dialogue it belongs to.

A datagram is a sealed envelope around one msgpack array: the sender's node id, then one or more
packets, each an array `[kind, field, …]` with its fields in the order written here. Unknown kinds
and trailing fields are ignored and counted. A tuple's last field that is itself a tuple of items
(`messages`, `rows`, `wants`, `dots`) may be spread over several packets when it does not fit one
datagram; every part stands alone.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple, get_args

from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, Dot, LogId, NodeId
from flc_udp.model.history import BaseLog
from flc_udp.model.tags import Tag


class Kind(IntEnum):
    """First field of a packet. Numbers are for ever; 1 and 2 are kept for hello and cookie."""

    PING = 3
    ACK = 4
    PING_REQ = 5
    NACK = 6
    JOIN = 7
    MEMBERS = 8
    UPDATE = 9
    LEAVE = 10
    RUMOR = 11
    PIECE = 12
    HAVE = 13
    RANGES = 14
    DIGEST = 15
    PULL = 16
    REPLAY = 17
    REPLAY_END = 18
    RECEIPT = 19
    RELAYED = 20
    PRUNE = 21
    MEMBER_RANGES = 22
    MEMBER_DIGEST = 23
    BASE_PULL = 24
    BASE = 25
    BASE_END = 26
    TAKEN = 27


class State(IntEnum):
    """What is believed of a member; at one incarnation the greater overrides the lesser."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class MemberRow(NamedTuple):
    """One claim about one member (SWIM 4.2): the subject alone raises its incarnation.

    `accuser` is who holds a suspect for suspect, from its own probes; a visitor's id in all else.
    `tags` are the subject's at that incarnation, in the order of their keys.
    """

    id: NodeId
    incarnation: int
    state: State
    address: Address
    name: str
    boot: int
    accuser: NodeId = VISITOR
    tags: tuple[Tag, ...] = ()


class Want(NamedTuple):
    """Messages low..high of a log; `pieces` narrows a want of one message to these pieces.

    `pieces` is flat (first, last, first, last, …), both included: numbers of 1024-byte pieces,
    from 0.
    """

    log: LogId
    low: int
    high: int
    pieces: tuple[int, ...] = ()


class DigestRow(NamedTuple):
    """A log as its teller durably holds it: head seq and the head's hash."""

    log: LogId
    seq: int
    hash: bytes


class Ping(NamedTuple):
    """SWIM probe; `root` and `members_root` let two nodes that agree stop at these bytes.

        prober ── ping(nonce, roots, log) ──▶ target
        prober ◀── ack(nonce, roots, held) ── target

    `log` is the prober's own log (eight zero bytes before its first post): the answer says how
    much of it the target durably holds. `health` is the sender's local health: 0 is well.
    """

    nonce: int
    root: bytes
    members_root: bytes
    catching_up: bool
    log: LogId
    health: int = 0


class Ack(NamedTuple):
    """Answer to a ping or a leave; `held` is the asker's log as the answerer durably holds it.

    With nonce 0, which no ping has, it answers a join: here is where I stand. `wall` is told to a
    visitor alone, who compares clocks: the answerer's own, in ms since 1970; to all others it is 0.
    """

    nonce: int
    root: bytes
    members_root: bytes
    catching_up: bool
    held: int
    health: int = 0
    wall: int = 0


class PingReq(NamedTuple):
    """Indirect probe (SWIM 3.1): a target that did not answer the prober is asked through others.

        prober ── ping-req(nonce, node) ──▶ relay ── ping ──▶ target
        prober ◀──── relayed(nonce) ─────── relay ◀── ack ─── target
        prober ◀───── nack(nonce) ───────── relay      (the target is silent)

    A relay asks only members it knows, at the address it knows. Its nack (Lifeguard 4.1) tells the
    prober that prober and relay at least hear each other in time.
    """

    nonce: int
    node: NodeId


class Nack(NamedTuple):
    """A relay's word that the target has not answered it either, so far."""

    nonce: int


class Relayed(NamedTuple):
    """A relay's word that the target answered it."""

    nonce: int
    node: NodeId


class Join(NamedTuple):
    """A newcomer, or one back from a cut, makes itself known.

    newcomer ── join(its own row) ──────▶ each seed, all at once
    newcomer ◀── members(row), ack(0) ─── each seed that lives: its own row, and its roots
    newcomer ── member-digest … ────────▶ the first of them whose root differs
    """

    row: MemberRow


class Members(NamedTuple):
    """Rows of the member table: the answer to a join, or to a member-digest. Each is a claim."""

    rows: tuple[MemberRow, ...]


class MemberRanges(NamedTuple):
    """Hashes of the 64 parts of one range of member ids, as `Ranges` is of log ids.

    The receiver answers for each part that differs: with its parts' hashes, or with its rows.

        a ── member-ranges(level 0) ──▶ b ── member-digest ──▶ a ── members ──▶ b
    """

    low: NodeId
    level: int
    hashes: bytes


class MemberDigest(NamedTuple):
    """All members with ids in low..high (both included) that the sender holds alive or suspect.

    Each row is a claim. The receiver answers with the rows it knows better: those that override
    one of these, and live ones that the sender does not list.

        a ── member-digest(rows) ──▶ b        b ── members(rows) ──▶ a
    """

    low: NodeId
    high: NodeId
    rows: tuple[MemberRow, ...]


class Update(NamedTuple):
    """News of members, piggybacked on probes and pushed when fresh. A subject refutes."""

    rows: tuple[MemberRow, ...]


class Leave(NamedTuple):
    """Orderly departure of the sender; answered by an ack with this nonce."""

    nonce: int
    row: MemberRow


class Rumor(NamedTuple):
    """New messages, pushed on event and forwarded once. `receipt` asks for a receipt.

        pusher ── rumor(at) … ──▶ peer        pusher ◀── taken(at) ── peer, every few datagrams

    `at` counts the bytes its sender has pushed: what was not taken yet is in flight.
    """

    receipt: bool
    at: int
    messages: tuple[bytes, ...]


class Taken(NamedTuple):
    """`Your rumors are read up to here`: more may be pushed."""

    at: int


class Piece(NamedTuple):
    """1024 bytes (the last may be shorter) at a fixed offset of a message too large for a datagram.

    Stands wherever a whole message would, in a rumor or a replay.
    """

    log: LogId
    seq: int
    hash: bytes
    total: int
    number: int
    data: bytes


class Prune(NamedTuple):
    """`This link brings me duplicates`: both its ends go lazy. Undone by a pull with `graft`."""


class Have(NamedTuple):
    """Dots the sender durably holds and will replay, and with each all before it in its log.

    teller ── have(dots) ──▶ peer ── pull(wants) ──▶ teller ── replay … ──▶ peer

    On lazy links, where the messages themselves come another way unless that is broken; with `pull`
    set nobody pushes them, because they are large.
    """

    pull: bool
    dots: tuple[Dot, ...]


class Ranges(NamedTuple):
    """Hashes of the 64 parts of one range of log ids, where a table has too many rows to tell.

    `hashes` is 64 times 8 bytes; a part's hash is the exclusive or of its rows' hashes. The
    receiver answers for each part that differs: with its parts' hashes, or with its rows.

        a ── ranges(level 0) ──▶ b ── ranges(level 1) ──▶ a ── digest(reply) ──▶ b …
    """

    low: LogId
    level: int
    hashes: bytes


class Digest(NamedTuple):
    """All logs the sender durably holds with ids in low..high (both included), by log id.

    A log in the range that has no row is not held. With `reply` set the receiver answers with the
    rows in which it is ahead (`reply` unset) and pulls those in which it is behind.

        a ── digest(reply) ──▶ b        b ── pull(wants) ──▶ a
        a ◀── digest(rows b leads) ── b      a ── pull(wants) ──▶ b
    """

    low: LogId
    high: LogId
    reply: bool
    rows: tuple[DigestRow, ...]


class Pull(NamedTuple):
    """Asks for messages with stamps in after..below (the second not included).

    Of `credit` bytes at most; `graft` makes the link between the two eager again.
    """

    nonce: int
    credit: int
    graft: bool
    after: int
    below: int
    wants: tuple[Want, ...]


class Replay(NamedTuple):
    """Messages that were pulled, in (stamp, log, seq) order; never forwarded as catch-up."""

    nonce: int
    messages: tuple[bytes, ...]


class ReplayEnd(NamedTuple):
    """The end of what answers a pull: what was wanted of stamps below `next` has been sent.

    `sent` messages were, so that who asked knows whether some were lost; the first that was not
    has the stamp `next`, which is the limit of stamps when there are no more. Of the logs `lacks`
    the teller holds less than was wanted, which may be in those stamps; where that is because
    it keeps no such old messages it tells its `floor`, the least stamp from which it keeps all.
    """

    nonce: int
    sent: int
    next: int
    floor: int
    lacks: tuple[LogId, ...]


class BasePull(NamedTuple):
    """Asks for the base that stands for all below a teller's floor: its logs above the id `after`.

    newcomer ── base-pull(after) ─────────────▶ teller      … until `next` is empty
    newcomer ◀── base(rows) …, base-end(next) ─ teller
    """

    nonce: int
    after: LogId


class Base(NamedTuple):
    """Logs as they stand at the floor; one of many rooms may come in several rows."""

    nonce: int
    rows: tuple[BaseLog, ...]


class BaseEnd(NamedTuple):
    """The end of a page: so many rows were sent, of that floor and version of the base.

    `next` is its last log, empty when there are no more; pages of one version belong together.
    """

    nonce: int
    floor: int
    version: int
    rows: int
    next: LogId


class Receipt(NamedTuple):
    """`I durably hold this log of yours up to seq`, to the log's author when a rumor asked."""

    log: LogId
    seq: int


Packet = (
    Ping | Ack | PingReq | Nack | Relayed
    | Join | Members | MemberRanges | MemberDigest | Update | Leave
    | Rumor | Taken | Piece | Prune | Have | Receipt
    | Ranges | Digest | Pull | Replay | ReplayEnd | BasePull | Base | BaseEnd
)  # fmt: skip


KIND_OF: dict[type[Packet], Kind] = {
    packet: Kind[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", packet.__name__).upper()]
    for packet in get_args(Packet)
}
