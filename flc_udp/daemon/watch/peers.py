"""How far each peer is behind, by what it says anyway: no datagram is sent to know this.

    messages   of this run's log that it has not said to hold, in acks of probes, in receipts, or
               by a root that was this node's own, for then it held everything this node did
    behind     for how long it has not reached what this node had said when it spoke before
    roots      whether its root of all logs was this node's own when it last told it, and when
               that was last so: this is the only measure in both directions

Rules. These are facts about others, and never a reason to call this node ill. Otherwise one full
disk would make every node of a cluster unhealthy, and nobody would be left to send users to.
Different roots are no fault while people talk, because something is always on its way, so they are
only counted. The more members there are, the older all this is: each is probed in its turn.
"""

from flc_udp.core.facts import Facts, MemberFacts
from flc_udp.wire.message_json import Record
from flc_udp.wire.rows import State

LISTED_MAX = 128
"""`flc status --json` lists at most this many peers, the worst first. The sums are of all."""


def peer_sums(facts: Facts) -> dict[str, float]:
    """All live peers, added up, for the metrics and the first lines of `flc status`."""
    live = facts.live
    links = [peer.link for peer in live if peer.link is not None]
    return {
        "live": len(live),
        # Peers that have not said to hold all of this run's log.
        "lagging": sum(peer.lag_messages > 0 for peer in live),
        "lag_messages_max": max((peer.lag_messages for peer in live), default=0),
        "behind": sum(peer.is_behind for peer in live),
        "behind_s_max": max((_behind_s(peer) for peer in live), default=0.0),
        "catching_up": sum(peer.catching_up for peer in live),
        "roots_differ": sum(peer.roots_agree is False for peer in live),
        "in_flight_bytes": sum(link.in_flight_bytes for link in links),
        "windows_full": sum(link.is_window_full for link in links),
    }


def peers_record(facts: Facts) -> Record:
    """The sums, and a list of all peers that have not left, the worst first."""
    listed = [peer for peer in facts.others if peer.row.state is not State.LEFT]
    listed.sort(key=_worst_first)
    return {
        **peer_sums(facts),
        "list": [peer_record(peer) for peer in listed[:LISTED_MAX]],
        "unlisted": max(len(listed) - LISTED_MAX, 0),
    }


def peer_record(peer: MemberFacts) -> Record:
    """One peer for people and scripts, in seconds."""
    row, link = peer.row, peer.link
    return {
        "id": row.id.hex(),
        "name": row.name,
        "address": str(row.address),
        "state": row.state.name.lower(),
        "state_s": _seconds(peer.state_for_us),
        "catching_up": peer.catching_up,
        "lag_messages": peer.lag_messages,
        "behind_s": _behind_s(peer),
        "told_s_ago": _seconds(peer.told_for_us),
        "roots_agree": peer.roots_agree,
        "agreed_s_ago": _seconds(peer.agreed_for_us),
        "link": None if link is None else "eager" if link.is_eager else "lazy",
        "in_flight_bytes": 0 if link is None else link.in_flight_bytes,
        "window_full": link is not None and link.is_window_full,
    }


def _behind_s(peer: MemberFacts) -> float:
    return round(peer.behind_for_us / 1e6, 1) if peer.is_behind else 0.0


def _worst_first(peer: MemberFacts) -> tuple[int, int, bool, int]:
    behind_for_us = peer.behind_for_us if peer.is_behind else 0
    return -peer.row.state, -behind_for_us, not peer.catching_up, -peer.lag_messages


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else round(micros / 1e6, 1)
