"""Says: from a request on the control socket to durable messages, and to whoever else holds them.

A say is answered after the commit of all its messages. With `wait` it is answered when enough other
members durably hold them, too, or when its time is out; those that are missing are named. With
`once` each message has a number of its client. What was said under a number is not said again, and
its dot is answered, whether the first say is still under way, remembered, or from before a restart,
and however the messages were grouped then.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from flc_udp.daemon.control.follow import Outlet
from flc_udp.daemon.control.held import Held
from flc_udp.daemon.control.requests import bodies_of, once_of, tagged, timeout_s_of, told
from flc_udp.daemon.ground import LoopGround
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.labels import check_label
from flc_udp.model.units import SECOND_US
from flc_udp.store.log import Reader
from flc_udp.store.once import Forgotten
from flc_udp.waist.ports import Post
from flc_udp.waist.waits import WaitEnded, Waiting
from flc_udp.wire.message_json import Record

Span = tuple[LogId, int, int]
"""(log, low, high), both seqs included."""


class RefusedSay(NamedTuple):
    """A say that was refused at once. Its answer has its turn all the same."""

    answer: bytes
    requested: Sequence[str | bytes] = ("",)
    """It counts as one message."""
    size_bytes: int = 0
    """Only its answer is held."""


class Say(Post):
    """One say of one connection. Only what was not said before is among its `bodies`."""

    __slots__ = (
        "answer", "is_many", "known", "n", "requested", "says", "size_bytes", "speaker", "tag",
        "timeout_s", "unknown", "wait", "waiting",
    )  # fmt: skip

    def __init__(self, says: "Says", speaker: Outlet, request: Record, tag: bytes) -> None:
        """Read a request; raises FlcError. `tag` is what ends its answer: the request's id."""
        room, author = request.get("room"), request.get("as")
        author = says.name if author is None else author
        if not isinstance(room, str):
            raise FlcError("a say needs a room", '{"op":"say","room":"ops","body":"hi"}')
        if not isinstance(author, str):
            raise FlcError(f"as is {author!r}", "a text is allowed: who speaks")
        check_label("room", room)
        check_label("author", author)
        self.requested, self.is_many = bodies_of(request)
        self.wait, self.timeout_s = request.get("wait"), timeout_s_of(request.get("timeout"))
        once = once_of(request.get("once"), len(self.requested))
        super().__init__(room, author, self.requested, receipt=self.wait is not None, once=once)
        self.says, self.speaker, self.tag = says, speaker, tag
        self.n = 0 if once is None else once[1]
        """The number of the first message that is requested."""
        self.waiting: Waiting | None = None
        self.size_bytes = 0
        """What it takes in memory until it is answered."""
        self.answer: bytes | None = None
        self.known: list[Span] = []
        """Messages that were said before."""
        self.unknown: dict[int, FlcError | StoreFailed] = {}
        """The places of messages of which nobody knows whether they were said, and why."""

    @property
    def newest(self) -> int:
        """The number of its last message."""
        return self.n + len(self.requested) - 1

    def went_on(self) -> None:
        """Whoever follows over the same connection is shown a part of it now."""
        self.speaker.remember(self.log, self.low, self.durable)

    def done(self) -> None:
        """Its messages are durable or refused."""
        try:
            self.says.done(self)
        except Exception as error:  # noqa: BLE001  # a request fails alone
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Something that nobody expected happened on the way to its answer."""
        self.finish({"ok": False, **told(self.says.failed("say", error))})

    def spans(self) -> list[Span]:
        """All its durable messages."""
        new = [(self.log, self.low, self.durable)] if self.low <= self.durable else []
        return _joined([*self.known, *new])

    def finish(self, record: Record) -> None:
        """Write its answer when its turn has come."""
        if self.answer is None:
            self.says.held.used_bytes -= self.size_bytes
        self.answer = tagged(record, self.tag)
        self.speaker.flush_soon()


@dataclass(slots=True)
class Numbered:
    """The says of one client that numbers them. The numbers of what is posted rise."""

    posted: deque[Say] = field(default_factory=deque)
    """Those that are under way."""
    repeats: deque[Say] = field(default_factory=deque)
    """Those that wait until it is known what became of the numbers that they repeat."""


class Says:
    """All says of a node that are under way."""

    def __init__(self, ground: LoopGround, reader: Reader, name: str) -> None:
        self.name = name
        """Who speaks where a request does not say."""
        self.failed = ground.failures.of_request
        self.held = Held()
        self._ground = ground
        self._reader = reader
        self._numbered: dict[str, Numbered] = defaultdict(Numbered)

    def begin(self, speaker: Outlet, request: Record, tag: bytes, line_bytes: int) -> Say:
        """Start a say; raises FlcError where the request cannot be one."""
        say = Say(self, speaker, request, tag)
        self._check_wait(say.wait)
        say.size_bytes = self.held.take_say(line_bytes)
        if say.once is None:
            self._post(say)
        else:
            self._numbered[say.once[0]].repeats.append(say)
            self._go_on(say.once[0])
        return say

    def _post(self, say: Say) -> None:
        self._ground.node.post(say)
        self._ground.turn_soon()

    def done(self, say: Say) -> None:
        """What is new of a say is durable or refused."""
        if say.durable >= say.low:
            say.speaker.remember(say.log, say.low, say.durable)
        if say.once is not None:
            self._numbered[say.once[0]].posted.remove(say)
        self._end(say)
        if say.once is not None:
            self._go_on(say.once[0])

    def _end(self, say: Say) -> None:
        """A say is here as far as it can be: answer it, or wait for others."""
        if say.wait is None or not say.spans():
            self._answer(say)
        else:
            self._begin_wait(say)

    # --- Once ---------------------------------------------------------------------------------

    def _go_on(self, client: str) -> None:
        """Begin the says of a client that repeat nothing which is still under way."""
        says = self._numbered[client]
        while says.repeats and not any(says.repeats[0].n <= say.newest for say in says.posted):
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
        say.places = range(len(say.bodies))
        if say.bodies:
            self._numbered[client].posted.append(say)
            self._post(say)
        else:
            self._end(say)

    def _look_up(self, say: Say, client: str) -> int:
        """Find the dots of its first messages, and return how many are no longer new."""
        found, newest = self._reader.once(client, say.n, len(say.requested))
        del found[max(newest - say.n + 1, 0) :]
        say.known = _joined((log, seq, seq) for log, seq in filter(None, found))
        missing = (place for place, dot in enumerate(found) if dot is None)
        say.unknown = {place: Forgotten(client, say.n + place) for place in missing}
        for log, low, high in say.known:
            say.speaker.remember(log, low, high)
            say.log, say.low, say.durable = log, high + 1, high
        if say.known:
            say.position = self._reader.position_of(say.dot) or 0
        return len(found)

    # --- Answers ------------------------------------------------------------------------------

    def _answer(self, say: Say, more: Record | None = None) -> None:
        errors = say.unknown
        if say.errors:
            old = len(say.requested) - len(say.bodies)  # Others had their numbers before.
            errors = errors | {old + place: say.errors[place] for place in say.refused}
        if say.is_many:
            record: Record = _partly(errors, len(say.requested)) if errors else {"ok": True}
            record["spans"] = [f"{log.hex()}:{low}-{high}" for log, low, high in say.spans()]
        elif errors:
            record = {"ok": False, **told(errors[0])}
        else:
            record = {"ok": True, "dot": str(say.dot)}
        if say.is_many or not errors:
            record["position"] = say.position or None
            if say.known and not say.bodies:
                record["again"] = True
        say.finish(record | (more or {}))

    # --- Wait -------------------------------------------------------------------------------------

    def _check_wait(self, wait: object) -> None:
        if wait is None or wait == "all":
            return
        live = len(self._ground.node.live_rows())
        if type(wait) is not int or wait < 0:
            raise FlcError(f"wait is {wait!r}", "a number of other nodes is allowed, or all")
        if wait > live:
            raise FlcError(
                f"cannot wait for {wait} other nodes: known to be alive: {live}",
                "see `flc members`; `all` waits for those that are alive",
            )

    def _begin_wait(self, say: Say) -> None:
        node = self._ground.node
        if say.dot.log != node.log:  # Nobody tells this run who holds messages of a former one.
            live = tuple(row.id for row in node.live_rows())
            self._end_wait(say, WaitEnded((), live, is_short=say.wait != 0))
            return
        needed = say.wait if isinstance(say.wait, int) else None
        done = partial(self._end_wait, say)
        say.waiting = node.wait(say.dot, needed, round(say.timeout_s * SECOND_US), done)
        self._ground.turn_soon()

    def gone(self, say: Say) -> None:
        """Whoever said it is gone: it goes its way, and nobody waits for others."""
        say.wait = None
        if say.waiting is not None:
            say.waiting.give_up()
            self._ground.turn_soon()

    def _end_wait(self, say: Say, ended: WaitEnded) -> None:
        try:
            self._answer(say, self._holders(say, ended))
        except Exception as error:  # noqa: BLE001  # a request fails alone
            say.fail(error)

    def _holders(self, say: Say, ended: WaitEnded) -> Record:
        more: Record = {"held_by": self._titles(ended.held_by)}
        if say.wait == "all" or ended.is_short:
            more["missing"] = self._titles(ended.missing)
        if ended.is_short:
            more["timeout"] = True
        return more

    def _titles(self, nodes: Sequence[NodeId]) -> list[str]:
        found = [(node, self._ground.node.member(node)) for node in nodes]
        return [f"{peer.row.name} ({node.hex()})" if peer else node.hex() for node, peer in found]


def _partly(errors: dict[int, FlcError | StoreFailed], count: int) -> Record:
    """What is told of a say of so many messages, some of which were refused."""
    first = min(errors)
    which, why = f"{len(errors)} of {count} messages, number {first + 1} first", told(errors[first])
    return {
        "ok": False,
        "error": f"{which}: {why['error']}; the others are durable",
        "hint": why["hint"],
        "refused": list(errors),
        "reasons": list(map(told, errors.values())),
    }


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in the order in which they come, as few as can be."""
    joined: list[Span] = []
    for log, low, high in spans:
        if joined and joined[-1][::2] == (log, low - 1):
            joined[-1] = (log, joined[-1][1], high)
        else:
            joined.append((log, low, high))
    return joined
