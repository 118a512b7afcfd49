"""How far each peer is behind, by what it says anyway: no datagram is sent to know this.

    messages   of this run's log that it has not said to hold: in acks of probes, in receipts, and
               by a root that was this node's own, for then it held whatever this node did
    behind     for how long it does not reach what this node had said before (`receipts.Mark`)
    roots      whether its root of all logs was this node's own when it last told it, and when
               it last was: the one measure in both directions

Rules. These are facts about others, and never a reason to call this node ill: else one full disk
would make every node of a cluster unhealthy, and nobody would be left to send users to. Roots that
differ are no fault while much is said, since something is always on its way; so they are counted,
and it is the mark that tells who is behind. The more members there are the older all this is: each
is probed in its turn.
"""

from __future__ import annotations

from typing import NamedTuple

from flc_udp.core.liveness.members import Member
from flc_udp.daemon.records import Record
from flc_udp.waist.node import Node
from flc_udp.wire.packets import State

LISTED_MAX = 128
"""Peers that `flc status --json` lists, the worst first; the sums are of all."""


class Peer(NamedTuple):
    """What is known of one; times in µs."""

    member: Member
    lag: int
    """Messages of this run's log that it has not said to hold."""
    behind_for: int
    told_for: int | None
    agreed_for: int | None
    agrees: bool | None
    """Whether its root was this node's own when it last told it; None: it has told none."""
    is_eager: bool | None
    """Of the link to it, None where there is none."""
    in_flight: int
    is_window_full: bool

    @property
    def is_behind(self) -> bool:
        """Whether it was when it last said how far it is."""
        return self.lag > 0 and self.behind_for > 0

    def record(self, now: int) -> Record:
        """For people and scripts, in seconds."""
        row = self.member.row
        return {
            "id": row.id.hex(),
            "name": row.name,
            "address": str(row.address),
            "state": row.state.name.lower(),
            "state_s": _seconds(now - self.member.since),
            "catching_up": self.member.catching_up,
            "lag_messages": self.lag,
            "behind_s": _seconds(self.behind_for) if self.is_behind else 0.0,
            "told_s_ago": _seconds(self.told_for),
            "roots_agree": self.agrees,
            "agreed_s_ago": _seconds(self.agreed_for),
            "link": None if self.is_eager is None else "eager" if self.is_eager else "lazy",
            "in_flight_bytes": self.in_flight,
            "window_full": self.is_window_full,
        }


class Peers(NamedTuple):
    """All living ones, added up."""

    live: int
    lagging: int
    """Those that have not said to hold all of this run's log."""
    lag_messages_max: int
    behind: int
    behind_s_max: float
    catching_up: int
    roots_differ: int
    in_flight_bytes: int
    windows_full: int


def peer_of(node: Node, member: Member, now: int) -> Peer:
    """One, as of now."""
    receipts, standing = node.replica.receipts, node.replica.standing
    row, root_at, agreed_at = member.row, member.root_at, member.agreed_at
    held, mark = receipts.held.get(row.id, 0), receipts.marks.get(row.id)
    told_at = [] if mark is None else [mark.told_at]
    if agreed_at is not None and member.agreed_on is not None:
        told_at.append(agreed_at)
        held = max(held, member.agreed_on.seq if member.agreed_on.log == standing.log else 0)
    link = node.replica.links.window(row.id)
    return Peer(
        member,
        standing.held(standing.log) - held,
        0 if mark is None or held >= mark.seq else mark.behind_for,
        now - max(told_at) if told_at else None,
        None if agreed_at is None else now - agreed_at,
        None if root_at is None else root_at == agreed_at,
        None if link is None else link[1],
        0 if link is None else link[0].on_the_way(now),
        link is not None and link[0].is_behind(now),
    )


def peers(node: Node, now: int) -> Peers:
    """The sums, for the metrics and the first lines of `flc status`."""
    return _sums([peer_of(node, member, now) for member in node.replica.liveness.members.live()])


def peers_record(node: Node, now: int) -> Record:
    """The sums, and a list of all that have not left, the worst first."""
    members = node.replica.liveness.members
    others = [peer_of(node, member, now) for member in list(members)[1:]]
    listed = [peer for peer in others if peer.member.row.state is not State.LEFT]
    listed.sort(key=_worst_first)
    return {
        **_sums([peer for peer in others if peer.member.is_live])._asdict(),
        "list": [peer.record(now) for peer in listed[:LISTED_MAX]],
        "unlisted": max(len(listed) - LISTED_MAX, 0),
    }


def _sums(live: list[Peer]) -> Peers:
    behind = [peer for peer in live if peer.is_behind]
    return Peers(
        live=len(live),
        lagging=sum(peer.lag > 0 for peer in live),
        lag_messages_max=max((peer.lag for peer in live), default=0),
        behind=len(behind),
        behind_s_max=max((round(peer.behind_for / 1e6, 1) for peer in behind), default=0.0),
        catching_up=sum(peer.member.catching_up for peer in live),
        roots_differ=sum(peer.agrees is False for peer in live),
        in_flight_bytes=sum(peer.in_flight for peer in live),
        windows_full=sum(peer.is_window_full for peer in live),
    )


def _worst_first(peer: Peer) -> tuple[int, int, bool, int]:
    behind_for = peer.behind_for if peer.is_behind else 0
    return -peer.member.row.state, -behind_for, not peer.member.catching_up, -peer.lag


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else round(micros / 1e6, 1)
