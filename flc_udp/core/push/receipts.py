"""Receipts: which members durably hold this node's own log, and who waits to know that.

`say --wait N` waits for N other members. `say --wait all` waits for those that were alive or
suspect when it was said. A member that dies or leaves meanwhile is waited for no more, and is
named. Members tell how far they are in receipts and in the acks of probes, so a lost receipt costs
one probe.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from flc_udp.model.dots import NodeId
from flc_udp.model.units import MS_US, NEVER, Micros

PROBE_PAUSE_US = 200 * MS_US
"""While somebody waits for receipts, members that owe one are probed this often."""


class Mark(NamedTuple):
    """The head that this node had when a member last reached the mark before. Times are in µs.

    Under load something is always on its way to a member. A member that by now holds what there was
    when it last spoke keeps up, however much that is. Otherwise it is behind since then.
    """

    seq: int
    since: int
    told_at: int
    """The moment at which the member last said how far it is."""

    @property
    def behind_for_us(self) -> int:
        """For how long it had not reached the mark when it last spoke. 0: it keeps up."""
        return self.told_at - self.since


@dataclass(slots=True, eq=False)
class Wait:
    """A wait for one message. It is done when `needed` members hold it or nobody is left.

    It is done, too, when nobody wants to know any more.
    """

    seq: int
    needed: int
    waited_for: dict[NodeId, None]
    held_by: list[NodeId] = field(default_factory=list)
    gone: list[NodeId] = field(default_factory=list)
    ended: list["Wait"] = field(default_factory=list)
    """It comes in here once it is done, so that nobody need look at all waits. Perhaps twice."""
    is_wanted: bool = True

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to wait for."""
        is_held = len(self.held_by) >= self.needed
        return is_held or not self.waited_for or not self.is_wanted

    def give_up(self) -> None:
        """Nobody wants to know any more."""
        self.is_wanted = False
        self.ended.append(self)


@dataclass(slots=True)
class Receipts:
    """How far other members durably hold one log of this node, and the waits for that."""

    held: dict[NodeId, int] = field(default_factory=dict)
    wake_at: int = NEVER
    """When the members that owe a receipt are to be probed, in µs."""
    marks: dict[NodeId, Mark] = field(default_factory=dict)
    """For each live member, how far it is to come, and when it last said how far it is."""
    _waits: list[Wait] = field(default_factory=list)
    """By seq. What was given up stays until it is come across."""

    def watch(
        self, seq: int, needed: int, members: Iterable[NodeId], now: Micros, ended: list[Wait]
    ) -> Wait:
        """Wait until `needed` of these members hold `seq`. Then the Wait comes into `ended`."""
        wait = Wait(seq, needed, dict.fromkeys(members), ended=ended)
        for node in list(wait.waited_for):
            self._tell(wait, node)
        if wait.is_done:
            ended.append(wait)
        else:
            insort(self._waits, wait, key=_seq)
            self.wake_at = now + PROBE_PAUSE_US
        return wait

    def receive(self, node: NodeId, seq: int, head: int, now: Micros) -> None:
        """A member durably holds this node's log up to `seq`, and this node up to `head`."""
        mark = self.marks.get(node)
        if mark is None or max(seq, self.held.get(node, 0)) >= mark.seq:
            self.marks[node] = Mark(head, now, now)
        else:
            self.marks[node] = mark._replace(told_at=now)
        if seq > self.held.get(node, 0):
            self.held[node] = seq
            reached = bisect_right(self._waits, seq, key=_seq)
            for wait in self._waits[:reached]:
                self._tell(wait, node)
            self._tidy(reached)

    def drop(self, node: NodeId) -> None:
        """A member died or left. Nobody waits for it any more."""
        self.marks.pop(node, None)
        for wait in self._waits:
            if node in wait.waited_for:
                del wait.waited_for[node]
                wait.gone.append(node)
        self._tidy(len(self._waits))

    def take_due(self, now: Micros) -> list[NodeId]:
        """The members to probe now: those that are waited for, in the order of the seqs."""
        if now < self.wake_at:
            return []
        self._tidy(len(self._waits))
        missing = list(dict.fromkeys(node for wait in self._waits for node in wait.waited_for))
        self.wake_at = now + PROBE_PAUSE_US if missing else NEVER
        return missing

    def _tell(self, wait: Wait, node: NodeId) -> None:
        if node in wait.waited_for and self.held.get(node, 0) >= wait.seq:
            del wait.waited_for[node]
            wait.held_by.append(node)

    def _tidy(self, count: int) -> None:
        """Take out those of the first waits that are done."""
        first = self._waits[:count]
        self._waits[:count] = [wait for wait in first if not wait.is_done]
        for wait in first:
            if wait.is_done:
                wait.ended.append(wait)


def _seq(wait: Wait) -> int:
    return wait.seq
