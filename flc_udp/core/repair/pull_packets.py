"""Names in a pull what is missing, so that one datagram holds it.

Rules. A pull for single logs may leave some of them out: they stay due, and the next pull names
them. A pull for a window of stamps must name everything that is missing of its logs, because at the
end of its answer the whole window counts as asked for. Where that is too many gaps, the last ones
are named as one, and some messages come that are here already. Of a large message that came in part
only the missing pieces are named.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from flc_udp.config import SEAL_BYTES
from flc_udp.core.repair.pieces import Pieces
from flc_udp.model.dots import Dot, LogId, Spans
from flc_udp.wire.rows import Want

LOGS_PER_PULL = 40
"""A pull names at most this many logs, and fewer where their gaps do not fit a datagram."""

PULL_HEAD_BYTES = 64
"""The head of a payload and a pull without its wants take at most this much."""

WANT_BYTES = 32
"""The size of a want without pieces: an id of 10 bytes, two seqs of 9, the heads of two arrays."""

PIECE_NUMBER_BYTES = 3
"""The number of a piece takes at most this much."""

PIECE_SPANS_MAX = 24
"""A want names at most this many spans of missing pieces."""

SPANS_PER_LOG = 4
"""A pull names at most this many gaps of a log. The others are asked for when these are filled."""

WANTS_PER_PULL = LOGS_PER_PULL * (SPANS_PER_LOG + 1)
"""A pull never has more wants: the gaps of each log, and the missing pieces of its first message.
"""

LOG_BYTES = (SPANS_PER_LOG + 1) * WANT_BYTES + 2 * PIECE_SPANS_MAX * PIECE_NUMBER_BYTES
"""The wants of one log take at most this much, if pieces of its first message are missing."""

Missing = list[tuple[LogId, Spans]]
"""Logs, and what is missing of each."""


class PullWriter:
    """Writes the wants of pulls, for datagrams of at most `packet_bytes_max`."""

    def __init__(self, pieces: Pieces, packet_bytes_max: int) -> None:
        self._pieces = pieces
        self._room_bytes = packet_bytes_max - SEAL_BYTES - PULL_HEAD_BYTES

    def name_some(self, logs: Missing) -> tuple[list[Want], Missing]:
        """Name as many of these logs as there is room for, at least one.

        Return the wants, and which of the logs they name.
        """
        wants: list[Want] = []
        named: Missing = []
        room_bytes = self._room_bytes
        for log, missing in logs:
            more = list(self._wants(log, missing))
            room_bytes -= _size_bytes(more)
            if named and room_bytes < 0:
                break
            named.append((log, missing))
            wants += more
        return wants, named

    def name_all(self, logs: Missing) -> list[Want]:
        """Name all that is missing of these logs, in fewer spans where there is little room."""
        wants: list[Want] = []
        room_bytes = self._room_bytes - WANT_BYTES * len(logs)
        for log, missing in logs:
            spans = list(missing)
            spans_max = SPANS_PER_LOG if room_bytes > LOG_BYTES else 1
            if len(spans) > spans_max:
                spans[spans_max - 1 :] = [(spans[spans_max - 1][0], spans[-1][1])]
            more = list(self._wants(log, spans))
            room_bytes -= _size_bytes(more) - WANT_BYTES
            wants += more
        return wants

    def _wants(self, log: LogId, missing: Iterable[tuple[int, int]]) -> Iterator[Want]:
        for low, high in islice(missing, SPANS_PER_LOG):
            pieces = self._pieces.missing(Dot(log, low))[: 2 * PIECE_SPANS_MAX]
            if not pieces:
                yield Want(log, low, high)
                continue
            yield Want(log, low, low, pieces)
            if low < high:
                yield Want(log, low + 1, high)


def _size_bytes(wants: Iterable[Want]) -> int:
    return sum(WANT_BYTES + PIECE_NUMBER_BYTES * len(want.pieces) for want in wants)
