"""The JSON records of members, clocks and counters, which people and scripts read.

The record of a message is made in `wire/message_json.py`.
"""

from collections.abc import Mapping
from typing import TypeVar

from flc_udp.core.facts import MemberFacts
from flc_udp.model.clocks import VectorClock
from flc_udp.model.units import Millis
from flc_udp.wire.message_json import Record, rfc3339

Name = TypeVar("Name", bound=str)


def clock_record(clock: VectorClock) -> Record:
    """{log: seq}, by log id."""
    return {log.hex(): seq for log, seq in sorted(clock.items())}


def member_record(member: MemberFacts, wall_ms: Millis, *, is_self: bool) -> Record:
    """A member as this node knows it. `since` is the time when its state changed here."""
    row = member.row
    return {
        "id": row.id.hex(),
        "name": row.name,
        "address": str(row.address),
        "state": row.state.name.lower(),
        "incarnation": row.incarnation,
        "since": rfc3339(Millis(wall_ms - member.state_for_us // 1_000)),
        "rtt_ms": None if member.rtt_us is None else round(member.rtt_us / 1_000, 3),
        "health": member.health,
        "self": is_self,
        "tags": dict(row.tags),
    }


def plain(counts: Mapping[Name, int]) -> Record:
    """Counters by name, without those that are 0."""
    return {str(name): counts[name] for name in sorted(counts) if counts[name]}
