"""Any packet that may travel, for hypothesis."""

from hypothesis import strategies as st

from flc_udp.config import (
    BLOCK_BYTES_MAX,
    INCARNATION_LIMIT,
    PIECE_BYTES,
    RANGE_LEVELS,
    SEQ_LIMIT,
    STAMP_LIMIT,
    TAGS_BYTES_MAX,
)
from flc_udp.model.address import fold
from flc_udp.model.block import Origin
from flc_udp.model.dots import Dot
from flc_udp.model.history import BaseLog, BaseRoom, Head
from flc_udp.model.labels import label_problem
from flc_udp.model.tags import Tag
from flc_udp.wire.packets import (
    Ack,
    Base,
    BaseEnd,
    BasePull,
    Digest,
    Have,
    Join,
    Leave,
    MemberDigest,
    MemberRanges,
    Members,
    Nack,
    Packet,
    Piece,
    Ping,
    PingReq,
    Prune,
    Pull,
    Ranges,
    Receipt,
    Relayed,
    Replay,
    ReplayEnd,
    Rumor,
    Taken,
    Update,
)
from flc_udp.wire.rows import DigestRow, MemberRow, State, Want

ids = st.binary(min_size=8, max_size=8)
hashes = st.binary(min_size=8, max_size=8)
numbers = st.integers(0, (1 << 64) - 1)
stamps = st.integers(0, STAMP_LIMIT)
floors = st.integers(0, STAMP_LIMIT - 1)
seqs = st.integers(1, SEQ_LIMIT - 1) | st.integers(1, 300)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=32).filter(
    lambda text: label_problem(text) is None
)
addresses = st.builds(
    lambda ip, port: fold(str(ip), port),
    st.ip_addresses(),
    st.integers(1, 65_535),
)
blocks = st.binary(max_size=300)
"""Opaque to the packets that carry them."""

tags = (
    st.lists(st.builds(Tag, labels.map(lambda t: t.replace("=", "-")), labels), max_size=16)
    .map(lambda found: tuple(sorted({tag.key: tag for tag in found}.values())))
    .filter(
        lambda found: sum(len(part.encode()) for tag in found for part in tag) <= TAGS_BYTES_MAX
    )
)
rows = st.builds(
    MemberRow,
    ids.filter(any),
    st.integers(0, INCARNATION_LIMIT - 1),
    st.sampled_from(State),
    addresses,
    labels,
    numbers,
    ids,
    tags,
)
dots = st.builds(Dot, ids, seqs)
piece_spans = st.lists(st.integers(0, 1_000), max_size=6).map(
    lambda found: tuple(sorted(found)[: len(found) // 2 * 2])
)
wants = st.builds(
    lambda log, ends: Want(log, min(ends), max(ends)), ids, st.tuples(seqs, seqs)
) | st.builds(lambda dot, pieces: Want(*dot, dot.seq, pieces), dots, piece_spans)


ranges = st.tuples(ids, st.integers(0, RANGE_LEVELS - 1), st.binary(min_size=512, max_size=512))


def many(items: st.SearchStrategy, most: int = 8) -> st.SearchStrategy:
    """A tuple of items as a packet has them; none at all is no packet."""
    return st.lists(items, min_size=1, max_size=most).map(tuple)


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    """Rows in order, within their range."""
    logs = sorted(draw(st.lists(ids, min_size=2, max_size=8)))
    low, *between, high = logs
    found = tuple(DigestRow(log, draw(seqs), draw(hashes)) for log in between)
    return Digest(low, high, draw(st.booleans()), found)


@st.composite
def member_digests(draw: st.DrawFn) -> MemberDigest:
    """Any rows of any range that fit one datagram; none at all says that none is held there."""
    low, high = sorted((draw(ids), draw(ids)))
    plain = rows.map(lambda row: row._replace(tags=()))
    found = draw(st.lists(rows, max_size=1) | st.lists(plain, max_size=4))
    return MemberDigest(low, high, tuple(found))


@st.composite
def base_logs(draw: st.DrawFn) -> BaseLog:
    """A log with rooms in which it spoke at or below its head."""
    head = Head(draw(seqs), draw(hashes), draw(floors))
    rooms = st.builds(BaseRoom, labels, st.integers(1, head.seq), st.none() | floors)
    origins = st.none() | st.builds(Origin, ids, labels)
    return BaseLog(draw(ids), head, draw(origins), tuple(draw(st.lists(rooms, max_size=4))))


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    """A piece that fits its total."""
    total = draw(st.integers(1, BLOCK_BYTES_MAX))
    number = draw(st.integers(0, (total - 1) // PIECE_BYTES))
    data = bytes([draw(st.integers(0, 255))]) * min(PIECE_BYTES, total - number * PIECE_BYTES)
    return Piece(*draw(dots), draw(hashes), total, number, data)


packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Ping, numbers, hashes, hashes, st.booleans(), ids, numbers),
    st.builds(Ack, numbers, hashes, hashes, st.booleans(), st.just(0) | seqs, numbers, numbers),
    st.builds(PingReq, numbers, ids),
    st.builds(Nack, numbers),
    st.builds(Relayed, numbers, ids),
    st.builds(Join, rows),
    st.builds(Members, many(rows)),
    st.builds(Update, many(rows)),
    st.builds(Leave, numbers, rows),
    st.builds(Rumor, st.booleans(), numbers, many(blocks)),
    pieces(),
    st.builds(Prune),
    st.builds(Have, st.booleans(), many(dots)),
    ranges.map(lambda found: Ranges(*found)),
    digests(),
    ranges.map(lambda found: MemberRanges(*found)),
    member_digests(),
    st.builds(Pull, numbers, numbers, st.booleans(), stamps, stamps, many(wants)),
    st.builds(Replay, numbers, many(blocks)),
    st.builds(ReplayEnd, numbers, numbers, stamps, floors, many(ids)),
    st.builds(Receipt, ids, seqs),
    st.builds(Taken, numbers, numbers, numbers),
    st.builds(BasePull, numbers, st.just(b"") | ids),
    st.builds(Base, numbers, many(base_logs())),
    st.builds(BaseEnd, numbers, floors, numbers, numbers, st.just(b"") | ids),
)
"""Every kind."""
