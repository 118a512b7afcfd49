"""Stories: what several authors said, each having heard only some of the others.

A story knows the causal past of every message as a set of dots: its log's earlier messages, what
its author had heard in the room, and the past of these. It is the oracle that frontiers and
delivery orders are held against.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import repeat
from typing import Any

from hypothesis import strategies as st

from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot

AUTHORS = ("ann", "bob", "cyd", "dan")
ROOMS = ("lobby", "ops")

steps = st.lists(
    st.tuples(
        st.sampled_from(AUTHORS),
        st.sampled_from(ROOMS),
        st.none() | st.integers(0, 40),
    ),
    max_size=25,
)
"""Who speaks, where, and which earlier block they hear first."""

counts = st.lists(st.integers(1, 4), min_size=25, max_size=25)
"""How many messages each of them says."""


def log_of(author: str) -> bytes:
    """The id of an author's log."""
    return author.encode().rjust(8, b"-")


class Story:
    """Blocks in an order they could have been said in."""

    def __init__(
        self,
        steps: Iterable[tuple[str, str, int | None]] = (),
        counts: Iterable[int] = repeat(1),
    ) -> None:
        self.said: list[Block] = []
        self.past: dict[Dot, frozenset[Dot]] = {}
        """Of each message, everything that it comes after."""
        self.heard: defaultdict[str, set[Dot]] = defaultdict(set)
        for (author, room, hears), count in zip(steps, counts, strict=False):
            if hears is not None and self.said:
                self.hear(author, self.said[hears % len(self.said)])
            self.say(author, room, *["hi"] * count)

    def hear(self, author: str, *blocks: Block) -> None:
        """The author hears blocks, and whatever came before them."""
        for block in blocks:
            last = last_dot(block)
            self.heard[author] |= self.past[last] | {last}

    def maximal(self, dots: Iterable[Dot], room: str) -> set[Dot]:
        """The dots of a room that nothing else among `dots` in that room comes after."""
        inside = {m.dot for b in self.said if b.room == room for m in b.messages()} & set(dots)
        return {dot for dot in inside if not any(dot in self.past[other] for other in inside)}

    def say(
        self,
        author: str,
        room: str = "lobby",
        body: str | bytes = "hi",
        *more: str | bytes,
        wall: int = 1_000,
    ) -> Block:
        """One block that follows all its author has heard: one message, or more."""
        heard, log = self.heard[author], log_of(author)
        stamps = {m.dot: m.stamp for block in self.said for m in block.messages()}
        own = [block for block in self.said if block.log == log]
        causes = {dot for dot in self.maximal(heard, room) if dot.log != log}
        block = write(
            log=log,
            first=own[-1].last + 1 if own else 1,
            room=room,
            author=author,
            wall=wall,
            stamp=next_stamp(
                wall,
                own[-1].stamp if own else 0,
                max((stamps[dot] for dot in causes), default=0),
            ),
            causes=tuple(causes),
            parent=own[-1].hash if own else NO_PARENT,
            bodies=[pack_body(body) for body in (body, *more)],
            origin=None if own else Origin(log[::-1], author),
        )
        before = causes | set(map(last_dot, own[-1:]))
        for message in block.messages():
            self.past[message.dot] = frozenset(before.union(*(self.past[dot] for dot in before)))
            before = {message.dot}
            heard.add(message.dot)
        self.said.append(block)
        return block


def last_dot(block: Block) -> Dot:
    """The name of a block's last message."""
    return Dot(block.log, block.last)


def variant(block: Block, **changes: object) -> Block:
    """The same dots with other bytes: what a forked log would say."""
    fields: dict[str, Any] = block._asdict()
    del fields["encoded"], fields["hash"], fields["last"]
    bodies = ["another story", *block.bodies[1:]]
    fields["bodies"] = list(map(pack_body, changes.pop("bodies", bodies)))
    return write(**{**fields, **changes})
