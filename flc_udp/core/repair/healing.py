"""Healing: blocks that have changed on this node's disk are fetched anew from others.

    rotten (the reader met it) ─▶ pull ─▶ replay or pieces ─▶ the right hash ─▶ written anew

Rules. The hash that a block must have is known from the hash chain of its log, so it does not
matter who sends it, and what else anybody sends for it is ignored. A block of which it is not known
waits until the next one of its log is healed. One peer is asked at a time, and the next one after a
pause. While none of them has it, each round of all peers is slower than the one before.
"""

from collections.abc import Iterable, Sequence

from flc_udp.config import STAMP_LIMIT
from flc_udp.core.effects import Heal
from flc_udp.core.liveness.members import MemberTable
from flc_udp.core.notices import BlockRotten
from flc_udp.core.repair.pieces import Pieces
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL, PullWriter
from flc_udp.core.shared import Shared
from flc_udp.model.block import Block, decode, hash_of, peek_dot
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.history import NO_HEAD, History, PlacedBlock, RottenBlock
from flc_udp.model.units import NEVER, SECOND_US, Micros
from flc_udp.wire.packets import Piece, Pull, Replay

ROTTEN_MAX = 4_096
"""At most this many blocks are healed at a time. The reader meets the others again."""

PAUSE_FIRST_US, PAUSE_MOST_US = SECOND_US, 30 * SECOND_US
"""The pause until the next peer is asked. It doubles with each round of all peers."""

PIECES_PAUSE_US = SECOND_US // 4
"""When so long no more pieces of a block came, the rest is asked for."""


class Healing:
    """The blocks that are to be fetched."""

    def __init__(self, shared: Shared, members: MemberTable) -> None:
        self.rotten: dict[Dot, RottenBlock] = {}
        """By the dots of their first messages, those in front that are asked for next."""
        self.wake_at: int = NEVER
        """When the next peer is asked, in µs."""
        self._came: dict[Dot, None] = {}
        """Those that came, and are being written."""
        self._members = members
        self._random = shared.random
        self._out = shared.out
        self._credit_bytes = shared.settings.pull_credit_bytes
        self._pieces = Pieces(shared.drops)
        self._writer = PullWriter(self._pieces, shared.settings.packet_bytes_max)
        self._nonce = 0
        self._asked = 0
        self._pause_us = PAUSE_FIRST_US

    def found(self, blocks: list[RottenBlock], now: Micros) -> None:
        """The reader met these."""
        for block in blocks:
            if (known := self.rotten.get(block.dot)) is not None:
                self.rotten[block.dot] = block
                if block.proof != known.proof:  # Only now anybody's copy can be told from others.
                    self._go_on(now)
            elif len(self.rotten) < ROTTEN_MAX:
                self.rotten[block.dot] = block
                self._out.append(BlockRotten(block.dot, block.last))
                self._go_on(now)

    def _go_on(self, now: Micros) -> None:
        self._pause_us = PAUSE_FIRST_US
        self.wake_at = min(self.wake_at, now)

    def wake(self, now: Micros) -> None:
        """Ask the next peer, if that is due."""
        if now < self.wake_at:
            return
        self.wake_at = NEVER if not self.rotten else now + self._pause_us
        live = self._members.live()
        # What has no proof yet would only take the place of what has one.
        provable = (block for block in self.rotten.values() if block.proof)
        to_ask = [block for block in provable if block.dot not in self._came]
        if not to_ask or not live:
            self._pause_longer()
            return
        # Each round of the peers begins with another one. Else, where there are more blocks than
        # one pull names, some would meet some of the peers only.
        peer = live[(self._asked + self._asked // len(live)) % len(live)]
        self._asked += 1
        if self._asked % len(live) == 0:
            self._pause_longer()
        for block in to_ask[:LOGS_PER_PULL]:
            self.rotten[block.dot] = self.rotten.pop(block.dot)
        missing = [(b.log, Spans([(b.first, b.last)])) for b in to_ask[:LOGS_PER_PULL]]
        wants, _ = self._writer.name_some(missing)
        self._nonce = self._random.getrandbits(64)
        pull = Pull(self._nonce, self._credit_bytes, False, 0, STAMP_LIMIT, tuple(wants))
        self._out.send(peer.row.address, pull)

    def _pause_longer(self) -> None:
        self._pause_us = min(2 * self._pause_us, PAUSE_MOST_US)

    # --- The network ------------------------------------------------------------------------------

    def is_answer(self, nonce: int) -> bool:
        """Whether a replay with this nonce, or its end, answers what was asked last."""
        return bool(self.rotten) and nonce == self._nonce

    def receive_replay(self, replay: Replay, now: Micros) -> None:
        """Blocks came that were asked for."""
        for encoded in replay.blocks:
            self._take(encoded, now)

    def receive_piece(self, piece: Piece, now: Micros) -> bool:
        """Take a piece of a rotten block. False: it is of another one."""
        rotten = self.rotten.get(Dot(piece.log, piece.seq))
        if rotten is None or piece.hash != rotten.proof:
            return False
        whole = self._pieces.add(piece)
        self._pause_us = PAUSE_FIRST_US  # Somebody has it, so pauses need not grow.
        if whole is None:
            self.wake_at = min(self.wake_at, now + PIECES_PAUSE_US)
        else:
            self._take(whole, now)
        return True

    def _take(self, encoded: bytes, now: Micros) -> None:
        dot = peek_dot(encoded)
        rotten = None if dot is None else self.rotten.get(dot)
        if rotten is None or rotten.dot in self._came or hash_of(encoded) != rotten.proof:
            return
        # The hash is the author's, whose bytes every node has read before it took them.
        self._out.append(Heal((PlacedBlock(rotten.position, decode(encoded)),)))
        self._came[rotten.dot] = None
        self._go_on(now)

    # --- What became of it ------------------------------------------------------------------------

    def healed(self, blocks: Sequence[Block]) -> None:
        """These were written."""
        for block in blocks:
            self.rotten.pop(block.dot, None)
            self._came.pop(block.dot, None)

    def floor_moved(self, floor: int) -> None:
        """What lies below this stamp was pruned, sound or not."""
        self._forget(dot for dot, block in self.rotten.items() if block.stamp < floor)

    def rebuilt(self, history: History) -> None:
        """The log holds this. What was pruned, or went when a base was taken, has no row."""
        bases = history.bases
        self._forget(dot for dot in self.rotten if dot.seq <= bases.get(dot.log, NO_HEAD).seq)

    def _forget(self, dots: Iterable[Dot]) -> None:
        for dot in list(dots):
            del self.rotten[dot]
            self._came.pop(dot, None)

    def failed(self, blocks: Sequence[Block], now: Micros) -> None:
        """These could not be written: fetch them again."""
        for block in blocks:
            self._came.pop(block.dot, None)
        self.wake_at = now + PAUSE_FIRST_US  # The disk fails: what comes could not be written.
