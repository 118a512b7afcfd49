"""Large messages put together from their pieces, bounded in number and bytes.

Pieces lie at fixed offsets, so any teller's fit any other's; what is missing is asked for by
number. Memory grows with pieces that came, never with a length somebody declared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flc_udp.config import MESSAGE_BYTES_MAX, PIECE_BYTES
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.message import hash_of
from flc_udp.wire.packets import Piece

PARTIAL_BYTES_MAX = 8 * MESSAGE_BYTES_MAX
"""Held over all unfinished messages; the one longest without a new piece goes first."""

PARTIALS_MAX = 1_024
"""Unfinished messages at once."""


@dataclass(slots=True)
class _Partial:
    total: int
    hash: bytes
    data: dict[int, bytes] = field(default_factory=dict)
    have: Spans = field(default_factory=Spans)

    @property
    def count(self) -> int:
        return -(-self.total // PIECE_BYTES)


class Pieces:
    """Unfinished messages by dot."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.dropped = 0
        self._partials: dict[Dot, _Partial] = {}

    def add(self, piece: Piece) -> bytes | None:
        """Take one piece in; the whole encoded message when it was the last one missing."""
        dot = Dot(piece.log, piece.seq)
        partial = self._partials.get(dot)
        if partial is None or (partial.total, partial.hash) != (piece.total, piece.hash):
            self.forget(dot)
            partial = self._partials[dot] = _Partial(piece.total, piece.hash)
        if piece.number not in partial.data:
            partial.data[piece.number] = piece.data
            partial.have.add(piece.number)
            self.held_bytes += len(piece.data)
            # Last again: the order is that of the last new piece.
            self._partials[dot] = self._partials.pop(dot)
        if len(partial.data) == partial.count:
            return self._finish(dot)
        self._bound()
        return None

    def missing(self, dot: Dot) -> tuple[int, ...]:
        """Flat (first, last, …) numbers still missing of a begun message; () of any other."""
        partial = self._partials.get(dot)
        if partial is None:
            return ()
        gaps = Spans([(0, partial.count - 1)]).minus(partial.have)
        return tuple(number for span in gaps for number in span)

    def forget(self, dot: Dot) -> None:
        """The message came some other way."""
        self._let_go(self._partials.pop(dot, None))

    def _finish(self, dot: Dot) -> bytes | None:
        partial = self._partials.pop(dot)
        self._let_go(partial)
        whole = b"".join(partial.data[number] for number in range(partial.count))
        return whole if hash_of(whole) == partial.hash else None

    def _let_go(self, partial: _Partial | None) -> None:
        if partial is not None:
            self.held_bytes -= sum(map(len, partial.data.values()))

    def _bound(self) -> None:
        while len(self._partials) > PARTIALS_MAX or self.held_bytes > PARTIAL_BYTES_MAX:
            oldest = next(iter(self._partials))
            self.forget(oldest)
            self.dropped += 1
