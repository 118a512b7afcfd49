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

from flc_udp.config import PIECE_BYTES
from flc_udp.model.drops import Drop
from flc_udp.wire.fields import (
    Data,
    Encoded,
    Flag,
    Hash,
    Hashes,
    Id,
    IdOrNone,
    Level,
    MessageBytes,
    NamedDot,
    Number,
    PieceNumber,
    Seq,
    SeqOrZero,
    Stamp,
    StampEnd,
)
from flc_udp.wire.rows import BaseRow, DigestRow, Row, Want


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


class Ping(NamedTuple):
    """SWIM probe; `root` and `members_root` let two nodes that agree stop at these bytes.

        prober ── ping(nonce, roots, log) ──▶ target
        prober ◀── ack(nonce, roots, held) ── target

    `log` is the prober's own log (eight zero bytes before its first post): the answer says how
    much of it the target durably holds. `health` is the sender's local health: 0 is well.
    """

    nonce: Number
    root: Hash
    members_root: Hash
    catching_up: Flag
    log: Id
    health: Number = 0


class Ack(NamedTuple):
    """Answer to a ping or a leave; `held` is the asker's log as the answerer durably holds it.

    With nonce 0, which no ping has, it answers a join: here is where I stand. `wall` is told to a
    visitor alone, who compares clocks: the answerer's own, in ms since 1970; to all others it is 0.
    """

    nonce: Number
    root: Hash
    members_root: Hash
    catching_up: Flag
    held: SeqOrZero
    health: Number = 0
    wall: Number = 0


class PingReq(NamedTuple):
    """Indirect probe (SWIM 3.1): a target that did not answer the prober is asked through others.

        prober ── ping-req(nonce, node) ──▶ relay ── ping ──▶ target
        prober ◀──── relayed(nonce) ─────── relay ◀── ack ─── target
        prober ◀───── nack(nonce) ───────── relay      (the target is silent)

    A relay asks only members it knows, at the address it knows. Its nack (Lifeguard 4.1) tells the
    prober that prober and relay at least hear each other in time.
    """

    nonce: Number
    node: Id


class Nack(NamedTuple):
    """A relay's word that the target has not answered it either, so far."""

    nonce: Number


class Relayed(NamedTuple):
    """A relay's word that the target answered it."""

    nonce: Number
    node: Id


class Join(NamedTuple):
    """A newcomer, or one back from a cut, makes itself known.

    newcomer ── join(its own row) ──────▶ each seed, all at once
    newcomer ◀── members(row), ack(0) ─── each seed that lives: its own row, and its roots
    newcomer ── member-digest … ────────▶ the first of them whose root differs
    """

    row: Row


class Members(NamedTuple):
    """Rows of the member table: the answer to a join, or to a member-digest. Each is a claim."""

    rows: tuple[Row, ...]


class MemberRanges(NamedTuple):
    """Hashes of the 64 parts of one range of member ids, as `Ranges` is of log ids.

    The receiver answers for each part that differs: with its parts' hashes, or with its rows.

        a ── member-ranges(level 0) ──▶ b ── member-digest ──▶ a ── members ──▶ b
    """

    low: Id
    level: Level
    hashes: Hashes


class MemberDigest(NamedTuple):
    """All members with ids in low..high (both included) that the sender holds alive or suspect.

    Each row is a claim. The receiver answers with the rows it knows better: those that override
    one of these, and live ones that the sender does not list.

        a ── member-digest(rows) ──▶ b        b ── members(rows) ──▶ a
    """

    low: Id
    high: Id
    rows: tuple[Row, ...]

    def fault(self) -> Drop | None:
        """Say why there is no such range."""
        return Drop.DIGEST_RANGE_EMPTY if self.low > self.high else None


class Update(NamedTuple):
    """News of members, piggybacked on probes and pushed when fresh. A subject refutes."""

    rows: tuple[Row, ...]


class Leave(NamedTuple):
    """Orderly departure of the sender; answered by an ack with this nonce."""

    nonce: Number
    row: Row


class Rumor(NamedTuple):
    """New messages, pushed on event and forwarded once. `receipt` asks for a receipt.

        pusher ── rumor(at) … ──▶ peer        pusher ◀── taken(at) ── peer, every few datagrams

    `at` counts the bytes its sender has pushed: what was not taken yet is in flight.
    """

    receipt: Flag
    at: Number
    messages: tuple[Encoded, ...]


class Taken(NamedTuple):
    """`Your rumors are read up to here`: more may be pushed."""

    at: Number


class Piece(NamedTuple):
    """1024 bytes (the last may be shorter) at a fixed offset of a message too large for a datagram.

    Stands wherever a whole message would, in a rumor or a replay.
    """

    log: Id
    seq: Seq
    hash: Hash
    total: MessageBytes
    number: PieceNumber
    data: Data

    def fault(self) -> Drop | None:
        """Say why no message of that length has such a piece."""
        size = min(PIECE_BYTES, self.total - self.number * PIECE_BYTES)
        return None if 0 < size == len(self.data) else Drop.PIECE_DOES_NOT_FIT


class Prune(NamedTuple):
    """`This link brings me duplicates`: both its ends go lazy. Undone by a pull with `graft`."""


class Have(NamedTuple):
    """Dots the sender durably holds and will replay, and with each all before it in its log.

    teller ── have(dots) ──▶ peer ── pull(wants) ──▶ teller ── replay … ──▶ peer

    On lazy links, where the messages themselves come another way unless that is broken; with `pull`
    set nobody pushes them, because they are large.
    """

    pull: Flag
    dots: tuple[NamedDot, ...]


class Ranges(NamedTuple):
    """Hashes of the 64 parts of one range of log ids, where a table has too many rows to tell.

    `hashes` is 64 times 8 bytes; a part's hash is the exclusive or of its rows' hashes. The
    receiver answers for each part that differs: with its parts' hashes, or with its rows.

        a ── ranges(level 0) ──▶ b ── ranges(level 1) ──▶ a ── digest(reply) ──▶ b …
    """

    low: Id
    level: Level
    hashes: Hashes


class Digest(NamedTuple):
    """All logs the sender durably holds with ids in low..high (both included), by log id.

    A log in the range that has no row is not held. With `reply` set the receiver answers with the
    rows in which it is ahead (`reply` unset) and pulls those in which it is behind.

        a ── digest(reply) ──▶ b        b ── pull(wants) ──▶ a
        a ◀── digest(rows b leads) ── b      a ── pull(wants) ──▶ b
    """

    low: Id
    high: Id
    reply: Flag
    rows: tuple[DigestRow, ...]

    def fault(self) -> Drop | None:
        """Say why no table has these rows in this range."""
        logs = [self.low, *(row.log for row in self.rows), self.high]
        return None if logs == sorted(logs) else Drop.DIGEST_ROWS_OUT_OF_ORDER


class Pull(NamedTuple):
    """Asks for messages with stamps in after..below (the second not included).

    Of `credit` bytes at most; `graft` makes the link between the two eager again.
    """

    nonce: Number
    credit: Number
    graft: Flag
    after: StampEnd
    below: StampEnd
    wants: tuple[Want, ...]


class Replay(NamedTuple):
    """Messages that were pulled, in (stamp, log, seq) order; never forwarded as catch-up."""

    nonce: Number
    messages: tuple[Encoded, ...]


class ReplayEnd(NamedTuple):
    """The end of what answers a pull: what was wanted of stamps below `next` has been sent.

    `sent` messages were, so that who asked knows whether some were lost; the first that was not
    has the stamp `next`, which is the limit of stamps when there are no more. Of the logs `lacks`
    the teller holds less than was wanted, which may be in those stamps; where that is because
    it keeps no such old messages it tells its `floor`, the least stamp from which it keeps all.
    """

    nonce: Number
    sent: Number
    next: StampEnd
    floor: Stamp
    lacks: tuple[Id, ...]


class BasePull(NamedTuple):
    """Asks for the base that stands for all below a teller's floor: its logs above the id `after`.

    newcomer ── base-pull(after) ─────────────▶ teller      … until `next` is empty
    newcomer ◀── base(rows) …, base-end(next) ─ teller
    """

    nonce: Number
    after: IdOrNone


class Base(NamedTuple):
    """Logs as they stand at the floor; one of many rooms may come in several rows."""

    nonce: Number
    rows: tuple[BaseRow, ...]


class BaseEnd(NamedTuple):
    """The end of a page: so many rows were sent, of that floor and version of the base.

    `next` is its last log, empty when there are no more; pages of one version belong together.
    """

    nonce: Number
    floor: Stamp
    version: Number
    rows: Number
    next: IdOrNone


class Receipt(NamedTuple):
    """`I durably hold this log of yours up to seq`, to the log's author when a rumor asked."""

    log: Id
    seq: Seq


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
