"""One wanted log: who tells of it, how often it was asked for in vain, and what members deleted.

A *teller* is a node that said that it holds something, or that sent it. A teller of a message holds
all its causes, too. The teller that holds the most is asked first, and one that failed is asked
last.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from flc_udp.model.dots import VISITOR, NodeId, Spans
from flc_udp.model.units import MS_US, SECOND_US

FLOWS_US = 60 * MS_US
"""What the tree brings in order flows as long as more of it comes within this time."""

FLOWS_MAX_US = SECOND_US
"""What a teller holds and the tree has not brought after this time does not flow."""

TELLERS_MAX = 4
"""A want remembers at most this many tellers."""

FAILURES_MAX = 14
"""A want is hopeless after this many pulls in a row that brought nothing of it."""

FAILURES_QUICK = 8
"""This many of them are each followed by another pull at once. At 25% loss 44 of 100 pulls fail, so
one want in 700 is still waiting after eight of them. Among a thousand nodes there always is one."""

ENOUGH = 20
"""A member with this much doubt in a row counts as one that has nothing. The pauses between pulls
grow, so silence alone takes seconds for it, and at 40% loss one member in 7,000 is wronged. One
that died is known to be dead by then, and is asked no more."""


@dataclass(slots=True)
class Floors:
    """What members answered for one log."""

    asked: dict[NodeId, int] = field(default_factory=dict)
    """{member: its floor, or 0 where it has nothing}. A member with a floor has a base."""
    is_through: bool = False
    """Whether all were asked. A base may be taken then; after a while all are asked anew."""
    doubts: Counter[NodeId] = field(default_factory=Counter)

    def has_brought(self, peer: NodeId) -> None:
        """It brought some. If it had nothing before, it has now."""
        self.doubts.pop(peer, None)
        self.tells(peer)

    def tells(self, peer: NodeId) -> None:
        """It says that it holds some: it is asked again, and doubted as before.

        What it holds may have changed on its disk, and then it says so and brings nothing.
        """
        if self.asked.get(peer) == 0:
            del self.asked[peer]

    def doubt(self, peer: NodeId, weight: int) -> None:
        """It was asked, and nothing arrived."""
        self.doubts[peer] += weight
        if self.doubts[peer] >= ENOUGH:
            self.asked.setdefault(peer, 0)

    def others(self, peers: Iterable[NodeId]) -> dict[NodeId, None]:
        """Those of them that are still to be asked."""
        return {peer: None for peer in peers if peer not in self.asked}


class Asker(Enum):
    """Who is asking for a wanted log at the moment."""

    PULL = "pull"
    CATCH_UP = "catch-up"


@dataclass(slots=True)
class WantedLog:
    """What is wanted of one log."""

    due_at: int
    """When it is to be asked for, while it waits."""
    by_digest: bool
    """Whether a digest was the first to tell of it."""
    upper: int = 0
    """The last seq that some teller holds."""
    tellers: list[NodeId] = field(default_factory=list)
    """Those that hold it, in the order in which they are to be asked."""
    boldest: NodeId = VISITOR
    """The one that told of that seq first."""
    missing: int = 0
    """Messages, as last counted."""
    is_backed: bool = False
    """Whether the last answer brought some of it, and its sender holds the rest."""
    asker: Asker | None = None
    """None: nobody is asking for it."""
    failures: int = 0
    flowed_at: int = -FLOWS_US
    """When the tree last brought some of it."""
    mark: int = 0
    """The tree is to bring this seq of it."""
    marked_at: int = 0
    first: int = 0
    """The greatest seq that was ever the first to be missing."""
    most: int = 0
    """How many messages of it were here at most, those included that wait for the first."""
    floors: Floors | None = None
    """It exists once some member told that it has deleted what is wanted."""

    def flows(self, missing: Spans, now: int) -> bool:
        """Whether the tree brings it in order, and has only not brought all of it yet.

        It is not asked for then: under load it may be on its way for longer than any grace.
        """
        if now >= self.flowed_at + FLOWS_US or missing.count() != self.upper - missing.first + 1:
            return False
        if missing.first > self.mark:
            self.mark, self.marked_at = self.upper, now
        return now < self.marked_at + FLOWS_MAX_US

    def gained(self, missing: Spans) -> bool:
        """Whether more of it is here than ever before.

        What waits for the first that is missing may be dropped for lack of room, and asked for and
        sent again. Where nobody has the first one, that would go on for ever, as if it were gain.
        """
        first, here = missing.first if missing else self.upper + 1, self.upper - missing.count()
        is_more = first > self.first or here > self.most
        self.first, self.most = max(first, self.first), max(here, self.most)
        return is_more

    def tell(self, upper: int, teller: NodeId) -> bool:
        """`teller` holds the log up to `upper`. Return whether that is more than was known."""
        if upper > self.upper:
            self.upper, self.boldest = upper, teller
            others = [other for other in self.tellers if other != teller]
            self.tellers = [teller, *others][:TELLERS_MAX]
            return True
        if teller not in self.tellers:
            self.tellers = [*self.tellers, teller][:TELLERS_MAX]
        return False

    def still_to_ask(self, live: Collection[NodeId]) -> Collection[NodeId]:
        """Those of the live members that may still have what is wanted."""
        if self.floors is not None and self.floors.is_through:
            self.floors = None  # All were asked some time ago: all are asked anew.
        return live if self.floors is None else self.floors.others(live)

    def fail(self, peer: NodeId) -> None:
        """`peer` was asked, and brought nothing of it."""
        if self.floors is None:
            self.failures += 1
        elif peer in self.floors.asked:
            self.failures = 0  # It has answered for good, and another member is next.
        else:
            # This never becomes hopeless: when all members were asked a base is taken.
            self.failures = min(self.floors.doubts[peer], FAILURES_MAX - 1)
        self.tellers = [teller for teller in self.tellers if teller != peer] + [peer]

    def pause_us(self, timeout_us: int) -> int:
        """How long to wait before asking again.

        A pull has the timeout to be answered, which paces the first failures, too.
        """
        doublings = max(self.failures - FAILURES_QUICK, 0)
        return ((timeout_us << doublings) - timeout_us) // 2
