"""What one run of a command is told: the variables of its environment, and its record on stdin."""

from typing import NamedTuple

from flc_udp.core.facts import MemberFacts
from flc_udp.daemon.records import member_record
from flc_udp.model.message import Message
from flc_udp.model.units import Millis
from flc_udp.wire.message_json import Record, message_record


class Run(NamedTuple):
    """One run of a command, for one message or one member."""

    environ: dict[str, str]
    record: Record

    @property
    def about(self) -> str:
        """The message or the member, for the daemon's log."""
        return self.environ.get("FLC_DOT") or self.environ["FLC_MEMBER"]


def run_for_message(message: Message, *, is_own: bool) -> Run:
    """The run for a new message. `is_own`: this run of the node said it."""
    environ = {
        "FLC_EVENT": "message",
        "FLC_DOT": str(message.dot),
        "FLC_ROOM": message.room,
        "FLC_AUTHOR": message.author,
        "FLC_OWN": "1" if is_own else "0",
    }
    return Run(environ, message_record(message))


def run_for_member(member: MemberFacts, wall_ms: Millis) -> Run:
    """The run for a member whose state changed."""
    row = member.row
    environ = {
        "FLC_EVENT": "member",
        "FLC_MEMBER": row.id.hex(),
        "FLC_MEMBER_NAME": row.name,
        "FLC_ADDRESS": str(row.address),
        "FLC_STATE": row.state.name.lower(),
        "FLC_MEMBER_TAGS": "\n".join(map(str, row.tags)),
    }
    return Run(environ, member_record(member, wall_ms, is_self=False))
