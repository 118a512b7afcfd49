"""Whatever is read begins and ends at any message, also inside a block, as if of a plain list."""

from collections.abc import Iterator
from itertools import combinations_with_replacement
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot, LogId
from flc_udp.model.message import Message, history_key
from flc_udp.store.log import Reader
from flc_udp.store.reader import messages_of
from tests.model.stories import ROOMS, Story, counts, steps
from tests.store.nodes import Node

Listed = list[tuple[int, Message]]
"""(position, message)."""


class Kept:
    """What a node holds, as plain lists."""

    def __init__(self, node: Node) -> None:
        self.blocks = [(node.positions[block.dot], block) for block in node.held]
        self.messages: Listed = [
            place for at, block in self.blocks for place in enumerate(block.messages(), at)
        ]

    def of(self, room: str | None) -> Listed:
        """By position, of one room or of all."""
        return [(at, message) for at, message in self.messages if room in (None, message.room)]


def a_node(chance: Random, story: Story, *, prunes: bool, adopts: bool) -> Node:
    """A node that heard the story in an order of its own, and pruned or took a base on the way."""
    node, other = Node(story), Node(story)
    for at in (node, other):
        for _ in range(chance.randint(1, len(story.said))):
            if waiting := at.waiting():
                at.deliver(chance.choice(waiting))
    if prunes:
        node.retain(chance.randint(1, 8))
    if adopts:
        other.retain(chance.randint(1, 8))
        node.adopt(other)
    node.catch_up()
    node.check()
    return node


@given(steps.filter(len), counts, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_every_read_cuts_anywhere(
    steps: list[Any], counts: list[int], prunes: bool, adopts: bool, chance: Random
) -> None:
    """By position, by stamp, by dot and by spans; with everything held, pruned, or after a base."""
    story = Story(steps[:10], counts)
    node = a_node(chance, story, prunes=prunes, adopts=adopts)
    kept, reader = Kept(node), node.log.reader()
    for room in (None, *ROOMS, "nowhere"):
        check_after(reader, room, kept)
        check_before_last(reader, room, kept)
        check_history(reader, room, kept)
    check_dots(reader, story, kept)
    check_replay(reader, story, kept, chance)
    node.disk.close()


def check_after(reader: Reader, room: str | None, kept: Kept) -> None:
    """From each position on, a few blocks at a time or all."""
    said = kept.of(room)
    for after in range(reader.last_position() + 2):
        expected = [(at, message) for at, message in said if at > after]
        assert list(messages_of(reader.after(after, room, 999), after)) == expected
        for limit in (1, 3):
            rows = reader.after(after, room, limit)
            found = list(messages_of(rows, after))
            assert found == expected[: len(found)]
            assert len(rows) == limit or found == expected


def check_before_last(reader: Reader, room: str | None, kept: Kept) -> None:
    """As many as are asked for are after it, whatever block the first of them is in."""
    said = kept.of(room)
    for n in range(len(said) + 2):
        after = reader.before_last(room, n)
        last = said[max(len(said) - n, 0) :]
        assert [(at, message) for at, message in said if at > after] == last


def check_history(reader: Reader, room: str | None, kept: Kept) -> None:
    """For each number of the last messages, and since each millisecond."""
    ordered = sorted(kept.of(room), key=lambda placed: history_key(placed[1]))
    for since in (None, *{message.stamp >> 16 for _, message in ordered}, 1 << 40):
        young = [placed for placed in ordered if placed[1].stamp >> 16 >= (since or 0)]
        assert list(reader.history(room, since_wall_ms=since)) == young
        for last in range(len(young) + 2):
            found = list(reader.history(room, last=last, since_wall_ms=since))
            assert found == young[max(len(young) - last, 0) :]
    blocks = [block for _, block in kept.blocks if room in (None, block.room)]
    assert [encoded for _, encoded in reader.blocks(room)] == [b.encoded for b in in_order(blocks)]


def in_order(blocks: list[Block]) -> list[Block]:
    """As the history has them."""
    return sorted(blocks, key=lambda block: (block.stamp, block.log, block.first))


def check_dots(reader: Reader, story: Story, kept: Kept) -> None:
    """Each message is found by its name and by its position, and what is not held is not."""
    places = {message.dot: at for at, message in kept.messages}
    names = {at: dot for dot, at in places.items()}
    held = {block.dot for _, block in kept.blocks}
    for block in story.said:
        for message in block.messages():
            assert reader.position_of(message.dot) == places.get(message.dot)
            assert reader.block(message.dot) == (block.encoded if block.dot in held else None)
        beyond = max(b.last for b in story.said if b.log == block.log) + 1
        for dot in (Dot(block.log, beyond), Dot(block.log, 0), Dot(b"nobodys!", 1)):
            assert reader.position_of(dot) is reader.block(dot) is None
    for position in range(reader.last_position() + 3):
        assert reader.dot_at(position) == names.get(position)


def check_replay(reader: Reader, story: Story, kept: Kept, chance: Random) -> None:
    """Each span of each log, then some spans of many logs: whole blocks, once each, in order."""
    ends = {block.log: block.last + 1 for block in story.said}
    spans = [
        (log, *span)
        for log, end in ends.items()
        for span in combinations_with_replacement(range(1, end + 1), 2)
    ]
    for span in spans:
        check_spans(reader, [span], kept, [1 << 20])
    for _ in range(10):
        several = chance.sample(spans, min(len(spans), chance.randint(2, 6)))
        check_spans(reader, several, kept, [0, 150, 400, 1 << 20])


def check_spans(
    reader: Reader, spans: list[tuple[LogId, int, int]], kept: Kept, sizes: list[int]
) -> None:
    """What a replay gives follows from the spans, whatever the credit."""
    wanted = [
        block
        for block in in_order([block for _, block in kept.blocks])
        if any(
            log == block.log and low <= block.last and block.first <= high
            for log, low, high in spans
        )
    ]
    starts = {0, 1, *(block.stamp for block in wanted)}
    for after in starts:
        found = [block for block in wanted if block.stamp >= after]
        for credit in sizes:
            taken = list(within(found, credit))
            following = found[len(taken)].stamp if len(taken) < len(found) else STAMP_LIMIT
            expected = ([block.encoded for block in taken], following)
            assert reader.replay(spans, credit, after) == expected


def within(blocks: list[Block], credit: int) -> Iterator[Block]:
    """As many as fit, but one at least."""
    for at, block in enumerate(blocks):
        credit -= len(block.encoded)
        if at and credit < 0:
            return
        yield block
