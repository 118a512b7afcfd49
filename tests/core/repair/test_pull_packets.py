"""Wants of pulls: what is missing is named, and one datagram holds it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import SEAL_BYTES, STAMP_LIMIT
from flc_udp.core.repair.pieces import Pieces
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL, SPANS_PER_LOG, PullWriter
from flc_udp.model.dots import Dot, LogId, NodeId, Spans
from flc_udp.wire.packets import Piece, Pull
from flc_udp.wire.packing import pack
from flc_udp.wire.rows import Want

PACKET_BYTES_MAX = 1_400
SEQ_MAX = 1 << 40

gaps = st.lists(st.tuples(st.integers(1, SEQ_MAX), st.integers(0, 1_000)), min_size=1, max_size=9)
many_logs = st.lists(gaps, min_size=1, max_size=LOGS_PER_PULL).map(
    lambda found: [
        (number.to_bytes(8, "big"), Spans([(low, low + more) for low, more in spans]))
        for number, spans in enumerate(found)
    ]
)


def writer(pieces: Pieces | None = None) -> PullWriter:
    """One that writes for the default datagram."""
    return PullWriter(pieces or Pieces(Counter()), PACKET_BYTES_MAX)


def left_out(wants: list[Want], log: LogId, missing: Spans) -> Spans:
    """What no want names of what is missing of a log."""
    return missing.minus(Spans([(want.low, want.high) for want in wants if want.log == log]))


def fits(wants: list[Want]) -> bool:
    """Whether a pull with these wants, and the longest of all else, is one datagram."""
    pull = Pull((1 << 64) - 1, 1 << 24, True, STAMP_LIMIT - 1, STAMP_LIMIT, tuple(wants))
    return len(pack(NodeId(bytes(8)), [pull], PACKET_BYTES_MAX - SEAL_BYTES)) == 1


@given(many_logs)
def test_a_window_names_all_that_is_missing(logs: list[tuple[LogId, Spans]]) -> None:
    """However many gaps there are: at the end of its answer the window counts as asked for."""
    wants = writer().name_all(logs)

    assert not any(left_out(wants, log, missing) for log, missing in logs)
    assert fits(wants)


@given(many_logs)
def test_a_pull_names_as_many_logs_as_fit(logs: list[tuple[LogId, Spans]]) -> None:
    """At least the first of them, each by its first gaps; the others are told to be left out."""
    wants, named = writer().name_some(logs)

    assert logs[: len(named)] == named != []
    assert list(dict.fromkeys(want.log for want in wants)) == [log for log, _ in named]
    for log, missing in named:
        mine = [(want.low, want.high) for want in wants if want.log == log]
        assert mine == list(missing)[:SPANS_PER_LOG]
    assert fits(wants)


def test_of_a_message_that_came_in_part_only_the_rest_is_named() -> None:
    """Its pieces by number, and what is missing after it as ever."""
    log, pieces = b"log-----", Pieces(Counter())
    pieces.add(Piece(log, 3, bytes(8), 5_000, 1, bytes(1_024)))
    assert pieces.missing(Dot(log, 3)) == (0, 0, 2, 4)

    wants, _ = writer(pieces).name_some([(log, Spans([(3, 7)]))])

    assert wants == [Want(log, 3, 3, (0, 0, 2, 4)), Want(log, 4, 7)]
