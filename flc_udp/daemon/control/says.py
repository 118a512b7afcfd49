"""Says: from a request on the control socket to a durable message, and to whoever else holds it.

A say is answered after its commit. With `wait` it is answered when enough other members durably
hold it, too, or when its time is out; those that are missing are named. With `once` a repeated say
returns the first dot, whether the first say is still under way, remembered, or from before a
restart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from flc_udp.daemon.control.requests import TIMEOUT_S, body_of, once_of, timeout_s_of
from flc_udp.daemon.ground import LoopGround
from flc_udp.model.dots import Dot, NodeId
from flc_udp.model.errors import FlcError
from flc_udp.model.message import check_label
from flc_udp.model.units import SECOND_US
from flc_udp.store.log import Reader
from flc_udp.store.once import Forgotten
from flc_udp.waist.ports import Committed, Once, Post
from flc_udp.waist.waits import WaitEnded
from flc_udp.wire.message_json import Record

NEWEST_MAX = 1_024
"""The newest numbers of this many clients are kept in memory."""


@dataclass(slots=True)
class Say:
    """One say of one connection. `answered` is called when it has its answer."""

    id: object
    answered: Callable[[], None]
    remember: Callable[[Dot], None] = lambda _dot: None
    answer: Record | FlcError | None = None
    wait: int | str | None = None
    timeout_s: float = TIMEOUT_S

    def finish(self, answer: Record | FlcError) -> None:
        """The answer is here. Other says may have to be answered before it."""
        self.answer = answer
        self.answered()


class Says:
    """All says of a node that are under way."""

    def __init__(self, ground: LoopGround, reader: Reader, name: str) -> None:
        self._ground = ground
        self._reader = reader
        self._name = name
        self._once: dict[str, dict[int, list[Say]]] = {}
        """{client: {n: repeats}} of the says under way. The numbers rise, so the last is the
        greatest."""
        self._newest: dict[str, int] = {}

    def begin(self, say: Say, request: Record) -> None:
        """Start a say; raises FlcError where the request cannot be a message."""
        room, author = request.get("room"), request.get("as") or self._name
        if not isinstance(room, str) or not isinstance(author, str):
            raise FlcError("a say needs a room", '{"op":"say","room":"ops","body":"hi"}')
        check_label("room", room)
        check_label("author", author)
        body = body_of(request.get("body"))
        say.wait, say.timeout_s = self._wait_of(request)
        once = once_of(request.get("once"))
        if once is not None and self._was_said(say, once):
            return
        done = partial(self._done, say, once)
        is_waited_for = say.wait is not None
        self._ground.node.post(Post(room, author, body, done, is_waited_for, once))
        self._ground.turn_soon()

    # --- Once ---------------------------------------------------------------------------------

    def _was_said(self, say: Say, once: Once) -> bool:
        """Answer with the first time it was said. False: this is the first time."""
        client, n = once
        under_way = self._once.get(client, {})
        if n in under_way:
            under_way[n].append(say)
            return True
        # A number above a new one is new, so the log is asked only once for each client.
        dot = self._reader.once(client, n) if n <= self._newest.get(client, n) else None
        if dot is not None:
            self._answer_again(say, dot)
            return True
        if under_way and n < (newest := next(reversed(under_way))):
            raise Forgotten(client, n, newest)
        self._once.setdefault(client, {})[n] = []
        self._newest[client] = n
        if len(self._newest) > NEWEST_MAX:
            del self._newest[next(iter(self._newest))]
        return False

    def _answer_again(self, say: Say, dot: Dot) -> None:
        say.remember(dot)
        position = self._reader.position_of(dot)
        is_of_this_run = dot.log == self._ground.node.log
        if say.wait is not None and is_of_this_run and position is not None:
            self._begin_wait(say, Committed(dot, position))
        else:
            say.finish({"ok": True, "dot": str(dot), "position": position, "again": True})

    def _done(self, say: Say, once: Once | None, outcome: Committed | FlcError) -> None:
        for one in (say, *self._repeats(once)):
            if isinstance(outcome, FlcError):
                one.finish(outcome)
                continue
            one.remember(outcome.dot)
            if one.wait is None:
                one.finish(_record(outcome))
            else:
                self._begin_wait(one, outcome)

    def _repeats(self, once: Once | None) -> list[Say]:
        if once is None:
            return []
        client, n = once
        repeats = self._once[client].pop(n)
        if not self._once[client]:
            del self._once[client]
        return repeats

    # --- Wait -------------------------------------------------------------------------------------

    def _wait_of(self, request: Record) -> tuple[int | str | None, float]:
        wait, timeout_s = request.get("wait"), timeout_s_of(request.get("timeout"))
        if wait is None or wait == "all":
            return wait, timeout_s
        live = len(self._ground.node.live_rows())
        if type(wait) is not int or wait < 0:
            raise FlcError(f"wait is {wait!r}", "a number of other nodes is allowed, or all")
        if wait > live:
            raise FlcError(
                f"cannot wait for {wait} other nodes: known to be alive: {live}",
                "see `flc members`; `all` waits for those that are alive",
            )
        return wait, timeout_s

    def _begin_wait(self, say: Say, said: Committed) -> None:
        needed = say.wait if isinstance(say.wait, int) else None
        done = partial(self._end_wait, say, said)
        self._ground.node.wait(said.dot, needed, round(say.timeout_s * SECOND_US), done)
        self._ground.turn_soon()

    def _end_wait(self, say: Say, said: Committed, ended: WaitEnded) -> None:
        record = _record(said) | {"held_by": self._titles(ended.held_by)}
        if say.wait == "all" or ended.is_short:
            record |= {"missing": self._titles(ended.missing)}
        if ended.is_short:
            record |= {"timeout": True}
        say.finish(record)

    def _titles(self, nodes: Sequence[NodeId]) -> list[str]:
        found = [(node, self._ground.node.member(node)) for node in nodes]
        return [f"{peer.row.name} ({node.hex()})" if peer else node.hex() for node, peer in found]


def _record(said: Committed) -> Record:
    return {"ok": True, "dot": str(said.dot), "position": said.position}
