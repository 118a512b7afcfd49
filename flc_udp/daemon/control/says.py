"""Says over the control socket: each is a request, and its answer has its turn.

What is said once, and who waits for whom, is decided by `waist.says`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flc_udp.daemon.control.follow import Outlet
from flc_udp.daemon.control.held import Held
from flc_udp.daemon.control.requests import (
    bodies_of,
    once_of,
    tagged,
    timeout_s_of,
    told,
    wait_of,
)
from flc_udp.daemon.ground import LoopGround
from flc_udp.model.dots import LogId, NodeId
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.labels import check_label
from flc_udp.model.units import SECOND_US
from flc_udp.model.visible import brief
from flc_udp.store.log import Reader
from flc_udp.waist.says import Say, Says
from flc_udp.waist.waits import WaitEnded
from flc_udp.wire.message_json import Record


class RefusedSay(NamedTuple):
    """A say that was refused at once. Its answer has its turn all the same."""

    answer: bytes
    requested: Sequence[str | bytes] = ("",)
    """It counts as one message."""
    size_bytes: int = 0
    """Only its answer is held."""


class SayRequest(Say):
    """One say of one connection."""

    __slots__ = ("answer", "is_many", "owner", "size_bytes", "speaker", "tag")

    def __init__(self, owner: "SayRequests", speaker: Outlet, request: Record, tag: bytes) -> None:
        """Read a request; raises FlcError. `tag` is what ends its answer: the request's id."""
        room, author = request.get("room"), request.get("as")
        author = owner.name if author is None else author
        if not isinstance(room, str):
            raise FlcError("a say needs a room", '{"op":"say","room":"ops","body":"hi"}')
        if not isinstance(author, str):
            raise FlcError(f"as is {brief(author)}", "a text is allowed: who speaks")
        check_label("room", room)
        check_label("author", author)
        requested, self.is_many = bodies_of(request)
        timeout_us = round(timeout_s_of(request.get("timeout")) * SECOND_US)
        once = once_of(request.get("once"), len(requested))
        wait = wait_of(request.get("wait"))
        super().__init__(
            owner, room, author, requested, once=once, wait=wait, timeout_us=timeout_us
        )
        self.owner, self.speaker, self.tag = owner, speaker, tag
        self.answer: bytes | None = None
        self.size_bytes = 0
        """What it takes in memory until it is answered."""

    def said(self, log: LogId, low: int, high: int) -> None:
        """Whoever follows over the same connection is shown them as their own."""
        self.speaker.remember(log, low, high)

    def done(self) -> None:
        """Its messages are durable or refused."""
        try:
            super().done()
        except Exception as error:  # noqa: BLE001  # a request fails alone
            self._fail(error)

    def answered(self) -> None:
        """Make its answer."""
        try:
            self._finish(self._record())
        except Exception as error:  # noqa: BLE001  # a request fails alone
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Something that nobody expected happened on the way to its answer."""
        self._finish({"ok": False, **told(self.owner.failed("say", error))})

    def _finish(self, record: Record) -> None:
        """Write its answer when its turn has come."""
        if self.answer is None:
            self.owner.held.used_bytes -= self.size_bytes
        self.answer = tagged(record, self.tag)
        self.speaker.flush_soon()

    def _record(self) -> Record:
        errors = self.reasons()
        if self.is_many:
            record: Record = _partly(errors, len(self.requested)) if errors else {"ok": True}
            record["spans"] = [f"{log.hex()}:{low}-{high}" for log, low, high in self.spans()]
        elif errors:
            record = {"ok": False, **told(errors[0])}
        else:
            record = {"ok": True, "dot": str(self.dot)}
        if self.is_many or not errors:
            record["position"] = self.position or None
            if self.known and not self.bodies:
                record["again"] = True
        return record if self.ended is None else record | self._holders(self.ended)

    def _holders(self, ended: WaitEnded) -> Record:
        more: Record = {"held_by": self._titles(ended.held_by)}
        if self.wait == "all" or ended.is_short:
            more["missing"] = self._titles(ended.missing)
        if ended.is_short:
            more["timeout"] = True
        return more

    def _titles(self, nodes: Sequence[NodeId]) -> list[str]:
        found = [(node, self.owner.node().member(node)) for node in nodes]
        return [f"{peer.row.name} ({node.hex()})" if peer else node.hex() for node, peer in found]


class SayRequests(Says):
    """All says of a daemon that are under way."""

    def __init__(self, ground: LoopGround, reader: Reader, name: str) -> None:
        super().__init__(lambda: ground.node, reader, ground.turn_soon)
        self.name = name
        """Who speaks where a request does not say."""
        self.failed = ground.failures.of_request
        self.held = Held()

    def request(self, speaker: Outlet, request: Record, tag: bytes, line_bytes: int) -> SayRequest:
        """Start a say; raises FlcError where the request cannot be one."""
        say = SayRequest(self, speaker, request, tag)
        self.check_wait(say.wait)
        say.size_bytes = self.held.take_say(line_bytes)
        self.begin(say)
        return say


class WaitingSays:
    """The says of one connection that are not answered yet, in the order of their answers."""

    def __init__(self) -> None:
        self.messages = self.size_bytes = 0
        """How many messages they have, and what they take in memory."""
        self._says: deque[SayRequest | RefusedSay] = deque()

    def __bool__(self) -> bool:
        return bool(self._says)

    def add(self, say: SayRequest | RefusedSay) -> None:
        """Answer it after the others."""
        self._says.append(say)
        self.messages += len(say.requested)
        self.size_bytes += say.size_bytes

    def answers(self) -> Iterator[bytes]:
        """The answers whose turn it is. Those that are given are forgotten."""
        while self._says and (answer := self._says[0].answer) is not None:
            say = self._says.popleft()
            self.messages -= len(say.requested)
            self.size_bytes -= say.size_bytes
            yield answer

    def requests(self) -> list[SayRequest]:
        """Those that were not refused at once."""
        return [say for say in self._says if isinstance(say, SayRequest)]


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
