"""Replays: what peers pull is read from the log and streamed to them, a little each turn.

Rules. The log is read on the loop, so each turn has a budget for it: a newcomer that asks for much
delays nobody's probe by more than one answer. The number of waiting pulls is bounded. When one peer
asks for more than its share, its oldest pull is dropped, because it has asked for that again.
"""

from collections import Counter, deque
from collections.abc import Iterator

from flc_udp.config import PIECE_BYTES
from flc_udp.core.effects import StreamBase, StreamReplay
from flc_udp.model.address import Address
from flc_udp.model.block import stamp_of
from flc_udp.model.dots import BEGINNING, Dot, LogId
from flc_udp.model.errors import Drop, StoreFailed
from flc_udp.model.history import BaseLog
from flc_udp.waist.ports import Reads
from flc_udp.wire.packets import Base, BaseEnd, BasePull, Packet, Piece, Pull, Replay, ReplayEnd
from flc_udp.wire.packing import pieces_of
from flc_udp.wire.rows import Want

PER_PEER_MAX = 4
"""At most this many pulls of one peer wait."""

WAITING_MAX = 256
"""At most this many pulls wait. Beyond it the oldest is dropped, and its asker asks another peer.
"""

BYTES_A_TURN = 65_536
"""When a turn has read this much, the next answer waits for the next turn."""

BASE_ROOMS = 512
"""A page of a base holds logs with about this many rooms altogether, which is about 30 kB."""

ROOMS_A_ROW = 6
"""A row with this many rooms fits any datagram, because a room takes at most 150 bytes."""

ROW_BYTES = 64
"""The approximate size of a row of a base."""


class Replays:
    """The pulls that wait for their answers."""

    def __init__(
        self, reader: Reads, credit_max: int, drops: Counter[Drop], counts: Counter[str]
    ) -> None:
        self._drops = drops
        self._counts = counts
        self._reader = reader
        self._credit_max = credit_max
        self._waiting: deque[StreamReplay | StreamBase] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, replay: StreamReplay | StreamBase) -> None:
        """One more pull came."""
        same = [other for other in self._waiting if other.to == replay.to]
        if len(same) >= PER_PEER_MAX or len(self._waiting) >= WAITING_MAX:
            self._waiting.remove(same[0] if len(same) >= PER_PEER_MAX else self._waiting[0])
            self._drops[Drop.PULL_TOO_MANY] += 1
        self._waiting.append(replay)

    def answers(self) -> Iterator[tuple[Address, list[Packet]]]:
        """Answer as many pulls as one turn may.

        Yield the address and the packets of each answer.
        """
        size = 0
        while self._waiting and size < BYTES_A_TURN:
            replay = self._waiting.popleft()
            packets = self._answer(replay)
            size += sum(_size(packet) for packet in packets)
            yield replay.to, packets

    def _answer(self, replay: StreamReplay | StreamBase) -> list[Packet]:
        try:
            if isinstance(replay, StreamBase):
                return self._base(replay.pull)
            return self._replay(replay.pull, replay.lacks)
        except StoreFailed:
            self._drops[Drop.LOG_UNREADABLE] += 1
            if isinstance(replay, StreamBase):
                return []
            return [ReplayEnd(replay.pull.nonce, 0, replay.pull.after, 0, replay.lacks)]

    def _replay(self, pull: Pull, lacks: tuple[LogId, ...]) -> list[Packet]:
        floor, below = self._below_floor(pull)
        if below:
            pull = pull._replace(wants=tuple(want for want in pull.wants if want.log not in below))
            lacks = tuple(below)  # Without logs that are merely not here yet: no base covers those.
        credit = min(pull.credit, self._credit_max)
        packets: list[Packet] = []
        for want in pull.wants:
            if want.pieces and credit > 0:
                pieces = self._pieces(want)[: max(credit // PIECE_BYTES, 1)]
                packets += pieces
                credit -= len(pieces) * PIECE_BYTES
        blocks, following = list[bytes](), pull.after
        if credit > 0:
            spans = [want[:3] for want in pull.wants if not want.pieces]
            blocks, following = self._reader.replay(spans, credit, pull.after, pull.below)
        sent = len(blocks)
        if sent == 1 and len(blocks[0]) > credit:
            # It is more than may come at once: send its first pieces; others are asked for later.
            following = stamp_of(blocks[0])
            packets += pieces_of(blocks.pop(), (0, max(credit // PIECE_BYTES - 1, 0)))
        if blocks:
            packets.append(Replay(pull.nonce, tuple(blocks)))
        self._counts["blocks replayed"] += sent
        return [*packets, ReplayEnd(pull.nonce, sent, following, floor if below else 0, lacks)]

    def _below_floor(self, pull: Pull) -> tuple[int, list[LogId]]:
        """The floor, and the wanted logs whose wanted part is no longer kept in full."""
        floor = self._reader.floor()
        heads = self._reader.base_heads([want.log for want in pull.wants]) if floor else {}
        below = (want.log for want in pull.wants if want.low <= heads.get(want.log, 0))
        return floor, list(dict.fromkeys(below))

    def _pieces(self, want: Want) -> list[Piece]:
        encoded = self._reader.block(Dot(want.log, want.low))
        return [] if encoded is None else list(pieces_of(encoded, want.pieces))

    def _base(self, pull: BasePull) -> list[Packet]:
        version = -1
        # All of it has to be of one moment, and the base may change while it is read.
        while version != self._reader.base_version():
            version = self._reader.base_version()
            page, floor = self._reader.base(pull.after, BASE_ROOMS), self._reader.floor()
        rows = tuple(row for log in page for row in _rows(log))
        following = page[-1].log if page else BEGINNING
        return [Base(pull.nonce, rows), BaseEnd(pull.nonce, floor, version, len(rows), following)]


def _rows(log: BaseLog) -> Iterator[BaseLog]:
    """Cut a log of a base into rows that fit a datagram."""
    for at in range(0, max(len(log.rooms), 1), ROOMS_A_ROW):
        yield log._replace(rooms=log.rooms[at : at + ROOMS_A_ROW])


def _size(packet: Packet) -> int:
    match packet:
        case Piece():
            return len(packet.data)
        case Replay():
            return sum(map(len, packet.blocks))
        case Base():
            return ROW_BYTES * len(packet.rows)
        case _:
            return 0
