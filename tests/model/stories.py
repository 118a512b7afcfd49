"""Stories: what several authors said, each having heard only some of the others.

A story knows the causal past of every message as a set of dots: its log's earlier messages, what
its author had heard in the room, and the past of these. It is the oracle that frontiers and
delivery orders are held against.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot
from flc_udp.model.message import NO_PARENT, Message, Origin, write

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
"""Who speaks, where, and which earlier message they hear first."""


def log_of(author: str) -> bytes:
    """The id of an author's log."""
    return author.encode().rjust(8, b"-")


class Story:
    """Messages in an order they could have been said in."""

    def __init__(self, steps: Iterable[tuple[str, str, int | None]] = ()) -> None:
        self.said: list[Message] = []
        self.past: dict[Dot, frozenset[Dot]] = {}
        self.heard: defaultdict[str, set[Dot]] = defaultdict(set)
        for author, room, hears in steps:
            if hears is not None and self.said:
                self.hear(author, self.said[hears % len(self.said)])
            self.say(author, room)

    def hear(self, author: str, *messages: Message) -> None:
        """The author hears messages, and whatever came before them."""
        for message in messages:
            self.heard[author] |= self.past[message.dot] | {message.dot}

    def maximal(self, dots: Iterable[Dot], room: str) -> set[Dot]:
        """The dots of a room that nothing else among `dots` in that room comes after."""
        inside = {m.dot for m in self.said if m.room == room} & set(dots)
        return {dot for dot in inside if not any(dot in self.past[other] for other in inside)}

    def say(
        self, author: str, room: str = "lobby", body: str | bytes = "hi", wall: int = 1_000
    ) -> Message:
        """One message that follows all its author has heard."""
        heard, log = self.heard[author], log_of(author)
        by_dot = {message.dot: message for message in self.said}
        own = [message for message in self.said if message.log == log]
        causes = {dot for dot in self.maximal(heard, room) if dot.log != log}
        message = write(
            log=log,
            seq=len(own) + 1,
            room=room,
            author=author,
            wall=wall,
            stamp=next_stamp(
                wall,
                own[-1].stamp if own else 0,
                max((by_dot[dot].stamp for dot in causes), default=0),
            ),
            causes=tuple(causes),
            parent=own[-1].hash if own else NO_PARENT,
            body=body,
            origin=None if own else Origin(log[::-1], author),
        )
        before = causes | {m.dot for m in own[-1:]}
        self.past[message.dot] = frozenset(before.union(*(self.past[dot] for dot in before)))
        self.said.append(message)
        heard.add(message.dot)
        return message


def variant(message: Message, **changes: object) -> Message:
    """The same dot with other bytes: what a forked log would say."""
    fields: dict[str, Any] = message._asdict()
    del fields["encoded"], fields["hash"]
    return write(**{**fields, "body": "another story", **changes})
