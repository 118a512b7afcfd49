"""Says: from what people want to be said to durable messages, and to whoever else holds them.

A say is answered after the commit of all its messages. With `wait` it is answered when enough other
members durably hold them, too, or when its time is out. With `once` each message has a number of
its client. What was said under a number is not said again, and its dot is answered, whether the
first say is still under way, remembered, or from before a restart, and however the messages were
grouped then.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.dots import LogId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.waist.node import Node
from flc_udp.waist.ports import Once, Post, RemembersSays
from flc_udp.waist.waits import WaitEnded, Waiting

Span = tuple[LogId, int, int]
"""(log, low, high), both seqs included."""

WaitFor = int | Literal["all"]
"""How many other nodes are to hold it; or all that are alive or suspect."""


class Forgotten(FlcError):  # noqa: N818  # says what happened, as Malformed does
    """A client's number that is older than what is remembered: whether it was said is unknown."""

    def __init__(self, client: str, n: int) -> None:
        super().__init__(
            f"number {n} of client {client!r} is too old, or was refused: no message is remembered",
            f"a client's numbers rise, and only its last {ONCE_REMEMBERED} are remembered",
        )


class Say(Post):
    """One say. Only what was not said before is among its `bodies`."""

    __slots__ = (
        "ended", "known", "n", "requested", "says", "timeout_us", "unknown", "wait", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        says: "Says",
        room: str,
        author: str,
        requested: Sequence[str | bytes],
        *,
        once: Once | None = None,
        wait: WaitFor | None = None,
        timeout_us: int = 0,
    ) -> None:
        super().__init__(room, author, requested, receipt=wait is not None, once=once)
        self.says, self.requested = says, requested
        self.wait, self.timeout_us = wait, timeout_us
        self.n = 0 if once is None else once[1]
        """The number of the first message that is requested."""
        self.known: list[Span] = []
        """Messages that were said before."""
        self.unknown: dict[int, FlcError | StoreFailed] = {}
        """The places of messages of which nobody knows whether they were said, and why."""
        self.waiting: Waiting | None = None
        """Its wait for others, once that has begun."""
        self.ended: WaitEnded | None = None
        """How its wait for others ended."""

    def answered(self) -> None:
        """Everything is known of it that will be."""
        raise NotImplementedError

    def said(self, log: LogId, low: int, high: int) -> None:
        """These messages are durable, and what whoever says it said."""

    @property
    def newest(self) -> int:
        """The number of its last message."""
        return self.n + len(self.requested) - 1

    def went_on(self) -> None:
        """A part of it is durable, and shown now."""
        self.said(self.log, self.low, self.durable)

    def done(self) -> None:
        """Its messages are durable or refused."""
        self.says.done(self)

    def spans(self) -> list[Span]:
        """All its durable messages."""
        new = [(self.log, self.low, self.durable)] if self.low <= self.durable else []
        return joined([*self.known, *new])

    def reasons(self) -> dict[int, FlcError | StoreFailed]:
        """Why messages were not said, as far as is known, by their places in `requested`."""
        old = len(self.requested) - len(self.bodies)  # Others had their numbers before.
        return self.unknown | {old + place: self.errors[place] for place in self.refused}


@dataclass(slots=True)
class Numbered:
    """The says of one client that numbers them. The numbers of what is posted rise."""

    posted: deque[Say] = field(default_factory=deque)
    """Those that are under way."""
    repeats: deque[Say] = field(default_factory=deque)
    """Those that wait until it is known what became of the numbers that they repeat."""


class Says:
    """All says of a node that are under way."""

    def __init__(
        self, node: Callable[[], Node], reader: RemembersSays, turn_soon: Callable[[], object]
    ) -> None:
        """`node` gives the node, which may be made later."""
        self.node = node
        self._reader = reader
        self._turn_soon = turn_soon
        self._numbered: dict[str, Numbered] = defaultdict(Numbered)

    def begin(self, say: Say) -> None:
        """Start a say, whose wait was checked."""
        if say.once is None:
            self._post(say)
        else:
            self._numbered[say.once[0]].repeats.append(say)
            self._go_on(say.once[0])

    def _post(self, say: Say) -> None:
        self.node().post(say)
        self._turn_soon()

    def done(self, say: Say) -> None:
        """What is new of a say is durable or refused."""
        if say.durable >= say.low:
            say.said(say.log, say.low, say.durable)
        if say.once is not None:
            self._numbered[say.once[0]].posted.remove(say)
        self._end(say)
        if say.once is not None:
            self._go_on(say.once[0])

    def _end(self, say: Say) -> None:
        """A say is here as far as it can be: answer it, or wait for others."""
        if say.wait is None or not say.spans():
            say.answered()
        else:
            self._begin_wait(say)

    # --- Once -------------------------------------------------------------------------------------

    def _go_on(self, client: str) -> None:
        """Begin the says of a client that repeat nothing which is still under way."""
        says = self._numbered[client]
        # The last of what is posted has the highest numbers.
        while says.repeats and not (says.posted and says.repeats[0].n <= says.posted[-1].newest):
            say = says.repeats.popleft()
            try:
                self._begin_numbered(say, client)
            except StoreFailed as error:
                say.unknown = dict.fromkeys(range(len(say.requested)), error)
                self._end(say)
        if not says.repeats and not says.posted:
            del self._numbered[client]

    def _begin_numbered(self, say: Say, client: str) -> None:
        """Find what was said before under a say's numbers, and post the rest."""
        # The numbers of what is under way are lower than these, so nothing was said under these.
        old = 0 if self._numbered[client].posted else self._look_up(say, client)
        say.bodies, say.once = say.requested[old:], (client, say.n + old)
        if say.bodies:
            self._numbered[client].posted.append(say)
            self._post(say)
        else:
            self._end(say)

    def _look_up(self, say: Say, client: str) -> int:
        """Find the dots of its first messages, and return how many are no longer new."""
        found, newest = self._reader.once(client, say.n, len(say.requested))
        del found[max(newest - say.n + 1, 0) :]
        say.known = joined((log, seq, seq) for log, seq in filter(None, found))
        missing = (place for place, dot in enumerate(found) if dot is None)
        say.unknown = {place: Forgotten(client, say.n + place) for place in missing}
        for log, low, high in say.known:
            say.said(log, low, high)
            say.log, say.low, say.durable = log, high + 1, high
        if say.known:
            say.position = self._reader.position_of(say.dot) or 0
        return len(found)

    # --- Wait -------------------------------------------------------------------------------------

    def check_wait(self, wait: WaitFor | None) -> None:
        """Raise FlcError if a say would wait for more nodes than there are."""
        if isinstance(wait, int) and wait > (live := len(self.node().live_rows())):
            raise FlcError(
                f"cannot wait for {wait} other nodes: known to be alive: {live}",
                "see `flc members`; `all` waits for those that are alive",
            )

    def _begin_wait(self, say: Say) -> None:
        def end(how: WaitEnded) -> None:
            say.ended = how
            say.answered()

        node = self.node()
        if not node.is_own(
            say.dot.log
        ):  # Nobody tells this run who holds messages of a former one.
            live = tuple(row.id for row in node.live_rows())
            end(WaitEnded((), live, is_short=say.wait != 0))
            return
        needed = say.wait if isinstance(say.wait, int) else None
        say.waiting = node.wait(say.dot, needed, say.timeout_us, end)
        self._turn_soon()

    def gone(self, say: Say) -> None:
        """Whoever said it is gone: it goes its way, and nobody waits for others."""
        say.wait = None
        if say.waiting is not None:
            say.waiting.give_up()
            self._turn_soon()


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in the order in which they come, as few as can be."""
    found: list[Span] = []
    for log, low, high in spans:
        if found and found[-1][::2] == (log, low - 1):
            found[-1] = (log, found[-1][1], high)
        else:
            found.append((log, low, high))
    return found
