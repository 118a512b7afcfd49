"""Authoring: what a new message of this node's own is made of.

It names as causes all maximal dots of its room, follows its log's head, and its stamp is above all
of these. An author reads its own bytes as every receiver will, before its seq is taken.
"""

from __future__ import annotations

from flc_udp.core.causal import Causal
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import LogId
from flc_udp.model.message import Message, Origin, write
from flc_udp.wire.packets import MemberRow


def compose(
    causal: Causal,
    log: LogId,
    me: MemberRow,
    room: str,
    author: str,
    body: str | bytes,
    wall: int,
) -> Message:
    """The next message of `log`; nothing is changed by it. `wall` in ms; raises FlcError."""
    head = causal.head(log)
    causes = causal.causes_of_next(room, log)
    return write(
        log=log,
        seq=head.seq + 1,
        room=room,
        author=author,
        wall=wall,
        stamp=next_stamp(wall, head.stamp, max(causes.values(), default=0)),
        causes=tuple(causes),
        parent=head.hash,
        body=body,
        origin=Origin(me.id, me.name) if head.seq == 0 else None,
    )
