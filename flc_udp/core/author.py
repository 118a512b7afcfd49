"""Authoring: what a new message of this node's own is made of.

It names as causes all maximal dots of its room, follows its log's head, and its stamp is above all
of these. An author reads its own bytes as every receiver will, before its seq is taken.
"""

from __future__ import annotations

from flc_udp.core.causal import Causal
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import LogId
from flc_udp.model.errors import FlcError
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


def check_size(body: str | bytes, limit: int) -> None:
    """Raise FlcError for a body of more than `limit` bytes, which is this node's own setting."""
    if len(body) * 4 <= limit:  # A character is at most 4 bytes: only long texts are measured.
        return
    size = len(body.encode("utf-8", "replace")) if isinstance(body, str) else len(body)
    if size > limit:
        raise FlcError(
            f"body has {size} bytes, allowed are {limit}",
            "send it in parts, or raise body_bytes_max on this node (at most 1 MiB)",
        )
