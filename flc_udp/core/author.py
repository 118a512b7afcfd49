"""Authoring: makes a new message of this node's own.

The message follows the head of its log. Its causes are the frontier of its room, and its stamp is
higher than theirs. An author reads its own bytes as every receiver will, before it takes the seq.
"""

from __future__ import annotations

from flc_udp.core.causal import Causal
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import LogId
from flc_udp.model.message import Message, Origin, write
from flc_udp.model.units import Millis
from flc_udp.wire.rows import MemberRow


def compose(
    causal: Causal,
    log: LogId,
    me: MemberRow,
    room: str,
    author: str,
    body: str | bytes,
    wall: Millis,
) -> Message:
    """Make the next message of `log`, and change nothing.

    `wall` is in ms since 1970. Raises FlcError.
    """
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
