from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import RANGE_LEVELS, SEAL_BYTES
from flc_udp.core.effects import Send
from flc_udp.core.ranges import FIRST_ID, Table, bounds, part
from flc_udp.core.standing import NO_LOG
from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.wire.packets import Digest, Packet, Ping, Ranges
from flc_udp.wire.packing import pack
from tests.core.dialogue import PAYLOAD_BYTES, Party, Talk

SECOND = 1_000_000

ids = st.binary(min_size=8, max_size=8)
levels = st.integers(0, RANGE_LEVELS - 1)


def logs(count: int) -> list[Block]:
    """The first blocks of so many logs, of one message each."""
    random = Random(7)
    return [
        write(
            log=random.randbytes(8),
            first=1,
            room="lobby",
            author="ann",
            wall=1,
            stamp=(1 << 16) + number,
            causes=(),
            parent=NO_PARENT,
            bodies=[pack_body("hi")],
            origin=Origin(b"an other", "other"),
        )
        for number in range(count)
    ]


def test_the_first_range_holds_every_id() -> None:
    """At level 0 there is one range."""
    assert bounds(FIRST_ID, 0) == (FIRST_ID, b"\xff" * 8)


@given(ids, levels)
def test_an_id_is_in_its_range_and_in_one_part_of_it(node: bytes, level: int) -> None:
    """Parts do not overlap, and together they are the range."""
    low, high = bounds(node, level)
    parts = [bounds(part(low, level, number), level + 1) for number in range(64)]

    assert low <= node <= high
    assert parts[0][0] == low
    assert parts[-1][1] == high
    assert sum(first <= node <= last for first, last in parts) == 1
    assert all(a[1] < b[0] for a, b in pairwise(parts))


@given(st.dictionaries(ids, st.integers(1, 2**64 - 1), max_size=50), ids, levels)
def test_one_row_more_shows_in_its_part_alone(
    rows: dict[bytes, int], node: bytes, level: int
) -> None:
    """Whatever the order of the rows, the part that differs is the one the row is in."""
    low = bounds(node, level)[0]
    inside = {n: h for n, h in rows.items() if bounds(n, level)[0] == low and n != node}
    without = Table(inside)
    with_it = Table(dict(reversed([*inside.items(), (node, 5)])))
    (begin,) = without.differing(low, level, with_it.hashes(low, level))

    first, last = bounds(begin, level + 1)
    assert first <= node <= last


def talk_of_ten_thousand_logs() -> Talk:
    """Ann holds the first message of each of 10,000 logs, bob all but one of them."""
    talk = Talk("ann", "bob")
    talk["ann"].disk = logs(10_000)
    talk["bob"].disk = talk["ann"].disk[:5_000] + talk["ann"].disk[5_001:]
    talk["ann"].start()
    talk["bob"].start()
    talk["bob"].replica.acquaint((talk["ann"].me,), talk.now)
    return talk


def test_one_message_of_ten_thousand_logs_is_found_in_three_round_trips_and_4_kb() -> None:
    """Unequal roots, then ranges and digests until the log is known; sealed bytes are counted."""
    talk = talk_of_ten_thousand_logs()
    asker, answerer = talk["ann"], talk["bob"]
    told = Ping(1, answerer.facts.root, answerer.facts.members_root, False, NO_LOG)
    asker.hear(answerer, told)
    size, hops = 0, 0
    while search := [p for p in sent_by(asker) if isinstance(p, Ranges | Digest)]:
        payloads = pack(asker.id, search, PAYLOAD_BYTES)
        size += sum(len(payload) + SEAL_BYTES for payload in payloads)
        hops += 1
        answerer.hear(asker, *search)
        asker, answerer = answerer, asker

    assert hops <= 4  # A pull and its replay make six hops of it: three round trips.
    assert size <= 4_000
    bob = talk["bob"].replica
    bob.wake(10 * SECOND)
    assert bob.repair_facts(0).to_go == 1


def test_it_is_repaired() -> None:
    """Two that meet end with the same 10,000 logs."""
    talk = talk_of_ten_thousand_logs()
    talk.meet()

    assert len(talk["bob"].disk) == 10_000


def sent_by(party: Party) -> list[Packet]:
    """Packets a party sends in this turn."""
    return [p for effect in party.end_turn() if isinstance(effect, Send) for p in effect.packets]
