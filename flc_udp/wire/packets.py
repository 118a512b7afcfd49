"""Every packet of the protocol, each with the dialogue that it belongs to.

The payload of a datagram is one msgpack array: the sender's node id, and then one or more packets.
A packet is an array `[kind, field, …]`, with its fields in the order in which its class declares
them. A reader skips packets of a kind that it does not know, and counts them. It ignores fields
after the last one that it knows. If the last field of a packet is an array of items (`blocks`,
`rows`, `wants`, `dots`), they may be spread over several packets, where they do not fit into one
datagram. Each of these packets can be read alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple, get_args

from flc_udp.config import PIECE_BYTES
from flc_udp.model.errors import Drop
from flc_udp.wire.rows import (
    BaseRow,
    BlockBytes,
    Data,
    DigestRow,
    Encoded,
    Flag,
    Hash,
    Hashes,
    IdOfLog,
    IdOfLogOrNone,
    IdOfNode,
    Level,
    NamedDot,
    Number,
    PieceNumber,
    Row,
    Seq,
    SeqOrZero,
    Stamp,
    StampEnd,
    Want,
)

# --- About sessions -----------------------------------------------------------------------------


class Hello(NamedTuple):
    """Proves the sender's session and address, with what a cookie gave it (RFC 9000, section 8).

        a ── ping, as its datagram c ───────────────▶ b     b knows no such session, and drops it
        a ◀── cookie(c, mac), as its datagram d ───── b
        a ── hello(mac), cookie(d, mac), ping again ▶ b     a is proved to b
        a ◀── hello(mac) … ack ────────────────────── b     b is proved to a

    It stands before all other packets of its datagram, and proves them, too. With a `mac` of zeros
    it only asks for a cookie, which comes if the padding makes it long enough.
    """

    mac: Hash
    padding: Data = b""


class Cookie(NamedTuple):
    """Asks who sent the datagram with this `counter` to prove itself, by a hello with this `mac`.

    The padding makes the cookie as long as an answer that has a cookie besides the hello. It is
    never longer than the datagram that drew it.
    """

    counter: Number
    mac: Hash
    padding: Data = b""


# --- About liveness -----------------------------------------------------------------------------


class Ping(NamedTuple):
    """Asks whether the receiver lives (SWIM 3.1), and tells it where the sender stands.

        prober ── ping(nonce, roots, log) ──▶ target
        prober ◀── ack(nonce, roots, held) ── target

    `root` stands for all messages that the sender durably holds, and `members_root` for all members
    that it holds alive or suspect. Two nodes whose roots are equal agree, and need no other packet
    to find that out. `log` is the log of the sender's present run, or eight zero bytes before its
    first post: the answer tells how much of it the target durably holds. Nobody starts an exchange
    with a node that is `catching_up`. `health` is the sender's local health, and 0 is well.
    """

    nonce: Number
    root: Hash
    members_root: Hash
    catching_up: Flag
    log: IdOfLog
    health: Number = 0


class Ack(NamedTuple):
    """Answers a ping or a leave, with its nonce, or a join, with nonce 0, which no ping has.

    `held` is the number of the last message of the asker's log that the answering node durably
    holds. `wall` is the clock of the answering node, in ms since 1970; 0 where it tells none. Who
    asked holds its own stamps to it, and a visitor compares clocks.
    """

    nonce: Number
    root: Hash
    members_root: Hash
    catching_up: Flag
    held: SeqOrZero
    health: Number = 0
    wall: Number = 0


class PingReq(NamedTuple):
    """Asks a relay to ping a member that did not answer the sender itself (SWIM 3.1).

        prober ── ping-req(nonce, node) ──▶ relay ── ping ──▶ target
        prober ◀──── relayed(nonce) ─────── relay ◀── ack ─── target
        prober ◀───── nack(nonce) ───────── relay      (the target is silent)

    A relay pings only members that it knows, at the addresses that it knows. Its nack (Lifeguard
    4.1) tells the prober that the two of them at least hear each other in time.
    """

    nonce: Number
    node: IdOfNode


class Nack(NamedTuple):
    """Tells the prober that the target has not answered the relay either, so far."""

    nonce: Number


class Relayed(NamedTuple):
    """Tells the prober that the target has answered the relay."""

    nonce: Number
    node: IdOfNode


class Join(NamedTuple):
    """Makes a newcomer known, or a node that was cut off.

    newcomer ── join(its own row) ──────▶ each seed, all at once
    newcomer ◀── members(row), ack(0) ─── each seed that lives: its own row, and its roots
    newcomer ── member-digest … ────────▶ the first of them whose root differs
    """

    row: Row


class Members(NamedTuple):
    """Rows of the member table, each of them a claim. Answers a join or a member-digest."""

    rows: tuple[Row, ...]


class MemberRanges(NamedTuple):
    """Hashes of the 64 parts of one range of member ids, as `ranges` has them for log ids.

    For each part whose hash differs, the receiver answers with the hashes of its parts, or with the
    rows in it.

        a ── member-ranges(level 0) ──▶ b ── member-digest ──▶ a ── members ──▶ b
    """

    low: IdOfNode
    level: Level
    hashes: Hashes


class MemberDigest(NamedTuple):
    """All members with ids from `low` to `high` that the sender holds alive or suspect.

    Both ends are included, and each row is a claim. The receiver answers with the rows that it
    knows better: those that override one of these rows, and living members that are not among them.

        a ── member-digest(rows) ──▶ b        b ── members(rows) ──▶ a
    """

    low: IdOfNode
    high: IdOfNode
    rows: tuple[Row, ...]

    def fault(self) -> Drop | None:
        """Say why there is no such range."""
        return Drop.DIGEST_RANGE_EMPTY if self.low > self.high else None


class Update(NamedTuple):
    """News of members, sent when it is fresh, and later together with pings and acks.

    A member that hears something about itself that it did not say refutes it.
    """

    rows: tuple[Row, ...]


class Leave(NamedTuple):
    """Says that the sender leaves in order. The answer is an ack with this nonce."""

    nonce: Number
    row: Row


# --- About messages -----------------------------------------------------------------------------


class Rumor(NamedTuple):
    """New blocks, which are pushed as soon as they may leave. Each node forwards them once.

        pusher ── rumor(at) … ──▶ peer        pusher ◀── taken(at, …) ── peer, every few datagrams

    `at` counts the bytes that the sender has pushed, to whomever, up to the end of these blocks.
    What the peer has not told to have taken is in flight. A rumor without blocks comes before
    pieces and says their `at`, or asks how far the peer has read. With `receipt` set, the sender
    asks for a receipt.
    """

    receipt: Flag
    at: Number
    blocks: tuple[Encoded, ...]


class Taken(NamedTuple):
    """Tells the pusher that its rumors were read up to `at`, so it may push more.

    By then `came` bytes had come over this link, so the pusher sees whether some were lost. At most
    `room` bytes may be on their way to the sender of this packet over the link.
    """

    at: Number
    came: Number
    room: Number


class Piece(NamedTuple):
    """A part of a block that is too large for a datagram.

    A piece has 1024 bytes, and the last one of a block may have fewer. `seq` is the number of the
    block's first message, `number` counts pieces from 0, and `total` is the length of the whole
    block in bytes. A piece stands wherever the whole block would stand, after a rumor or in a
    replay.
    """

    log: IdOfLog
    seq: Seq
    hash: Hash
    total: BlockBytes
    number: PieceNumber
    data: Data

    def fault(self) -> Drop | None:
        """Say why no block of that length has such a piece."""
        size = min(PIECE_BYTES, self.total - self.number * PIECE_BYTES)
        return None if 0 < size == len(self.data) else Drop.PIECE_DOES_NOT_FIT


class Prune(NamedTuple):
    """Says that this link brings duplicates. Both ends go lazy, until a pull with `graft`."""


class Have(NamedTuple):
    """Dots that the sender durably holds, and with each of them all earlier messages of its log.

    Each dot is that of a block's last message.

    teller ── have(dots) ──▶ peer ── pull(wants) ──▶ teller ── replay … ──▶ peer

    Over a lazy link, a have says what should come another way: the peer pulls it only if it does
    not come. With `pull` set, nobody pushes these blocks, because they are large.
    """

    pull: Flag
    dots: tuple[NamedDot, ...]


class Ranges(NamedTuple):
    """Hashes of the 64 parts of one range of log ids, for tables with too many rows to list.

    The hash of a part is the exclusive or of the hashes of its rows. For each part whose hash
    differs, the receiver answers with the hashes of its parts, or with the rows in it.

        a ── ranges(level 0) ──▶ b ── ranges(level 1) ──▶ a ── digest(reply) ──▶ b …
    """

    low: IdOfLog
    level: Level
    hashes: Hashes


class Digest(NamedTuple):
    """All logs with ids from `low` to `high`, both included, that the sender durably holds.

    The rows stand in the order of their ids. The sender does not hold any other log in the range.
    If `reply` is set, the receiver answers with the rows in which it is ahead (with `reply` unset),
    and pulls what it lacks.

        a ── digest(reply) ──▶ b        b ── pull(wants) ──▶ a
        a ◀── digest(rows b leads) ── b      a ── pull(wants) ──▶ b
    """

    low: IdOfLog
    high: IdOfLog
    reply: Flag
    rows: tuple[DigestRow, ...]

    def fault(self) -> Drop | None:
        """Say why no table has these rows in this range."""
        logs = [self.low, *(row.log for row in self.rows), self.high]
        return None if logs == sorted(logs) else Drop.DIGEST_ROWS_OUT_OF_ORDER


class Pull(NamedTuple):
    """Asks for the blocks of these messages, with stamps from `after` on and below `below`.

    A block is sent as a whole, even where only a part of it is wanted. The answer may have `credit`
    bytes at most. With `graft` set, the link between the two nodes becomes eager again.
    """

    nonce: Number
    credit: Number
    graft: Flag
    after: StampEnd
    below: StampEnd
    wants: tuple[Want, ...]


class Replay(NamedTuple):
    """Blocks that were pulled, in the order of (stamp, log, seq)."""

    nonce: Number
    blocks: tuple[Encoded, ...]


class ReplayEnd(NamedTuple):
    """Ends the answer to a pull: all that was wanted with stamps below `next` has been sent.

    `sent` counts the blocks, so the receiver knows if some were lost. The first block that was not
    sent has the stamp `next`, which is the limit of stamps if there is none. Of each log in
    `lacks`, the sender holds less than was wanted, and what it does not hold may have such stamps.
    If that is so because it deletes old messages, `floor` is the stamp from which it keeps all.
    """

    nonce: Number
    sent: Number
    next: StampEnd
    floor: Stamp
    lacks: tuple[IdOfLog, ...]


class BasePull(NamedTuple):
    """Asks for the base, which stands for everything below the floor of the receiver.

    Its logs come by their ids, and `after` is the id after which they are wanted.

        newcomer ── base-pull(after) ─────────────▶ teller      … until `next` is empty
        newcomer ◀── base(rows) …, base-end(next) ─ teller
    """

    nonce: Number
    after: IdOfLogOrNone


class Base(NamedTuple):
    """Logs as they stand at the floor. A log of many rooms may come in several rows."""

    nonce: Number
    rows: tuple[BaseRow, ...]


class BaseEnd(NamedTuple):
    """Ends a page of a base: this many rows were sent, of this floor and version.

    `next` is the last log of the page, and empty if no more follow. Pages of one version belong
    together.
    """

    nonce: Number
    floor: Stamp
    version: Number
    rows: Number
    next: IdOfLogOrNone


class Receipt(NamedTuple):
    """Tells the author of a log that the sender durably holds it up to `seq`.

    It is sent only if a rumor asked for it.
    """

    log: IdOfLog
    seq: Seq


# --- All of them --------------------------------------------------------------------------------

SessionPacket = Hello | Cookie

LivenessPacket = (
    Ping | Ack | PingReq | Nack | Relayed
    | Join | Members | MemberRanges | MemberDigest | Update | Leave
)  # fmt: skip

MessagePacket = (
    Rumor | Taken | Piece | Prune | Have | Receipt
    | Ranges | Digest | Pull | Replay | ReplayEnd | BasePull | Base | BaseEnd
)  # fmt: skip

Packet = SessionPacket | LivenessPacket | MessagePacket

LIVENESS_KINDS = frozenset(get_args(LivenessPacket))
"""The classes of packets that are about liveness, which wait for nothing."""

FOR_MANY_KINDS = frozenset((Hello, Cookie, Join, Update, Rumor, Piece, Have))
"""The classes of packets that many may read. All others name their receiver (`wire/seal.py`)."""

KIND_OF: dict[type[Packet], int] = {
    Hello: 1,
    Cookie: 2,
    Ping: 3,
    Ack: 4,
    PingReq: 5,
    Nack: 6,
    Join: 7,
    Members: 8,
    Update: 9,
    Leave: 10,
    Rumor: 11,
    Piece: 12,
    Have: 13,
    Ranges: 14,
    Digest: 15,
    Pull: 16,
    Replay: 17,
    ReplayEnd: 18,
    Receipt: 19,
    Relayed: 20,
    Prune: 21,
    MemberRanges: 22,
    MemberDigest: 23,
    BasePull: 24,
    Base: 25,
    BaseEnd: 26,
    Taken: 27,
}
"""The kind of each class of packets, which is a packet's first field.

A number never gets another meaning.
"""

TITLE_OF = {made: re.sub(r"(?<=[a-z])(?=[A-Z])", "-", made.__name__).lower() for made in KIND_OF}
"""The name that people use for each class of packets, as in `ping-req`."""
