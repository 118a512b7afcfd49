"""Every packet of the protocol, with the dialogue it belongs to.

A datagram is a sealed envelope around one msgpack array: the sender's node id, then one or more
packets, each an array `[kind, field, …]` with its fields in the order written here. Unknown kinds
and trailing fields are ignored and counted. A tuple's last field that is itself a tuple of items
(`messages`, `rows`, `wants`, `dots`) may be spread over several packets when it does not fit one
datagram; every part stands alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from flc_udp.model.address import Address
from flc_udp.model.dots import Dot, LogId, NodeId


class Kind(IntEnum):
    """First field of a packet. Numbers are for ever; 1 and 2 are kept for hello and cookie."""

    PING = 3
    ACK = 4
    JOIN = 7
    MEMBERS = 8
    UPDATE = 9
    LEAVE = 10
    RUMOR = 11
    PIECE = 12
    HAVE = 13
    DIGEST = 15
    PULL = 16
    REPLAY = 17
    REPLAY_END = 18
    RECEIPT = 19


class State(IntEnum):
    """What is believed of a member; at one incarnation the greater overrides the lesser."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class MemberRow(NamedTuple):
    """One claim about one member (SWIM 4.2): the subject alone raises its incarnation."""

    id: NodeId
    incarnation: int
    state: State
    address: Address
    name: str
    boot: int


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
    much of it the target durably holds.
    """

    nonce: int
    root: bytes
    members_root: bytes
    catching_up: bool
    log: LogId


class Ack(NamedTuple):
    """Answer to a ping or a leave; `held` is the asker's log as the answerer durably holds it."""

    nonce: int
    root: bytes
    members_root: bytes
    catching_up: bool
    held: int


class Join(NamedTuple):
    """A newcomer, or one back from a cut, asks for the member table.

    newcomer ── join(its own row) ──▶ each seed, all at once
    newcomer ◀── members(rows) ────── each seed that lives
    """

    row: MemberRow


class Members(NamedTuple):
    """Rows of the member table, answering a join; each is a claim, the answerer's own is first."""

    rows: tuple[MemberRow, ...]


class Update(NamedTuple):
    """News of members, piggybacked on probes and pushed when fresh. A subject refutes."""

    rows: tuple[MemberRow, ...]


class Leave(NamedTuple):
    """Orderly departure of the sender; answered by an ack with this nonce."""

    nonce: int
    row: MemberRow


class Rumor(NamedTuple):
    """New messages, pushed on event and forwarded once. `receipt` asks for a receipt."""

    receipt: bool
    messages: tuple[bytes, ...]


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


class Have(NamedTuple):
    """Dots the sender durably holds and will replay: how large messages are announced.

    teller ── have(dots) ──▶ peer ── pull(wants) ──▶ teller ── replay … ──▶ peer
    """

    dots: tuple[Dot, ...]


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
    """Asks for messages; `credit` is how many bytes of them may come."""

    nonce: int
    credit: int
    wants: tuple[Want, ...]


class Replay(NamedTuple):
    """Messages that were pulled, in (stamp, log, seq) order; never forwarded as catch-up."""

    nonce: int
    messages: tuple[bytes, ...]


class ReplayEnd(NamedTuple):
    """The end of what answers a pull; `complete` when the credit sufficed for all that is held."""

    nonce: int
    complete: bool


class Receipt(NamedTuple):
    """`I durably hold this log of yours up to seq`, to the log's author when a rumor asked."""

    log: LogId
    seq: int


Packet = (
    Ping
    | Ack
    | Join
    | Members
    | Update
    | Leave
    | Rumor
    | Piece
    | Have
    | Digest
    | Pull
    | Replay
    | ReplayEnd
    | Receipt
)

KIND_OF: dict[type[Packet], Kind] = {
    Ping: Kind.PING,
    Ack: Kind.ACK,
    Join: Kind.JOIN,
    Members: Kind.MEMBERS,
    Update: Kind.UPDATE,
    Leave: Kind.LEAVE,
    Rumor: Kind.RUMOR,
    Piece: Kind.PIECE,
    Have: Kind.HAVE,
    Digest: Kind.DIGEST,
    Pull: Kind.PULL,
    Replay: Kind.REPLAY,
    ReplayEnd: Kind.REPLAY_END,
    Receipt: Kind.RECEIPT,
}
