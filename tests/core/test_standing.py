from functools import reduce
from itertools import pairwise
from operator import xor

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.core.standing import Standing, log_hash
from flc_udp.model.history import Head
from flc_udp.wire.rows import DigestRow
from tests.model.stories import AUTHORS, Story, log_of, steps


@given(steps, st.integers(1, 5))
def test_the_root_is_the_one_from_scratch(steps: list, batch: int) -> None:
    """Commit by commit, root, rows and counts are those of the heads alone."""
    story = Story(steps)
    standing = Standing({})
    heads: dict[bytes, Head] = {}
    for at in range(0, len(story.said), batch):
        blocks = story.said[at : at + batch]
        standing.commit(blocks)
        heads |= {block.log: Head(block.last, block.hash, block.stamp) for block in blocks}
        hashes = (log_hash(log, head) for log, head in heads.items())
        root = reduce(xor, hashes, 0).to_bytes(8, "big")

        assert root == standing.table.root == Standing(heads).table.root
        assert (len(heads), at + len(blocks)) == (len(standing.table), standing.messages)
        assert [
            DigestRow(log, heads[log].seq, heads[log].hash) for log in sorted(heads)
        ] == standing.rows(bytes(8), b"\xff" * 8)


@given(steps, st.integers(1, 4))
def test_the_root_does_not_depend_on_batches_or_order(steps: list, batch: int) -> None:
    """Two that hold the same have the same root."""
    story = Story(steps)
    one, other = Standing({}), Standing({})
    for block in story.said:
        one.commit([block])
    by_log = sorted(story.said, key=lambda block: block.dot)
    for at in range(0, len(by_log), batch):
        other.commit(by_log[at : at + batch])

    assert one.table.root == other.table.root


def test_every_step_changes_the_root() -> None:
    """Two that differ in one message differ in their roots."""
    story = Story()
    standing = Standing({})
    roots = [standing.table.root]
    for author in AUTHORS * 3:
        standing.commit([story.say(author)])
        roots.append(standing.table.root)

    assert len(set(roots)) == len(roots)
    assert all(a != b for a, b in pairwise(roots))


def test_rows_of_a_range_include_both_ends() -> None:
    """A digest of low..high has the logs at low and at high."""
    story = Story()
    standing = Standing({})
    standing.commit([story.say(author) for author in AUTHORS])

    assert [log_of("bob"), log_of("cyd")] == [
        row.log for row in standing.rows(log_of("bob"), log_of("cyd"))
    ]


def test_held_is_the_durable_head() -> None:
    """0 of a log nothing is held of."""
    story = Story()
    standing = Standing({})
    standing.commit([story.say("ann"), story.say("ann")])

    assert (standing.held(log_of("ann")), standing.held(log_of("bob"))) == (2, 0)
