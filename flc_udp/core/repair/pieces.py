"""Pieces: large blocks are put together here, bounded in number and bytes.

Pieces lie at fixed offsets, so the pieces of any two tellers fit together. What is missing is asked
for by number. Memory grows with the pieces that came, and never with a length that somebody
declared.
"""

from collections import Counter
from dataclasses import dataclass, field

from flc_udp.config import BLOCK_BYTES_MAX, PIECE_BYTES
from flc_udp.model.block import hash_of
from flc_udp.model.dots import Dot, Spans
from flc_udp.model.errors import Drop
from flc_udp.wire.packets import Piece

PARTIAL_BYTES_MAX = 8 * BLOCK_BYTES_MAX
"""All unfinished blocks together have at most this many bytes. Beyond it the one that has got no
new piece for the longest time is dropped."""

PARTIALS_MAX = 1_024
"""At most this many blocks are unfinished at once."""


@dataclass(slots=True)
class _Partial:
    """A block of which some pieces came."""

    total_bytes: int
    hash: bytes
    data: dict[int, bytes] = field(default_factory=dict)
    numbers: Spans = field(default_factory=Spans)
    """The numbers of the pieces that came."""

    @property
    def count(self) -> int:
        """How many pieces it has."""
        return -(-self.total_bytes // PIECE_BYTES)


class Pieces:
    """Unfinished blocks by dot."""

    def __init__(self, drops: Counter[Drop]) -> None:
        self.held_bytes = 0
        self._partials: dict[Dot, _Partial] = {}
        """The one that got a new piece last stands last."""
        self._drops = drops

    def add(self, piece: Piece) -> bytes | None:
        """Take a piece. Return the encoded block if this was the last piece missing."""
        dot = Dot(piece.log, piece.seq)
        partial = self._partials.get(dot)
        if partial is None or (partial.total_bytes, partial.hash) != (piece.total, piece.hash):
            self.forget(dot)
            partial = self._partials[dot] = _Partial(piece.total, piece.hash)
        if piece.number not in partial.data:
            partial.data[piece.number] = piece.data
            partial.numbers.add(piece.number)
            self.held_bytes += len(piece.data)
            self._partials[dot] = self._partials.pop(dot)
        if len(partial.data) == partial.count:
            self.forget(dot)
            whole = b"".join(partial.data[number] for number in range(partial.count))
            return whole if hash_of(whole) == partial.hash else None
        self._bound()
        return None

    def missing(self, dot: Dot) -> tuple[int, ...]:
        """The missing pieces, flat as (first, last, first, last, …). (): none of it came yet."""
        partial = self._partials.get(dot)
        if partial is None:
            return ()
        gaps = Spans([(0, partial.count - 1)]).minus(partial.numbers)
        return tuple(number for span in gaps for number in span)

    def forget(self, dot: Dot) -> None:
        """Forget what came of a block, if anything did."""
        partial = self._partials.pop(dot, None)
        if partial is not None:
            self.held_bytes -= sum(map(len, partial.data.values()))

    def _bound(self) -> None:
        while len(self._partials) > PARTIALS_MAX or self.held_bytes > PARTIAL_BYTES_MAX:
            oldest = next(iter(self._partials))
            self.forget(oldest)
            self._drops[Drop.PIECES_OVERFLOW] += 1
