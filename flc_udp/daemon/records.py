"""Messages, members and statuses as the JSON records people and scripts read.

A message's record is a function of its bytes, key for key: converged nodes print the same.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from functools import lru_cache

from flc_udp.core.members import Member
from flc_udp.model.clocks import VectorClock
from flc_udp.model.message import Message

Record = dict[str, object]

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""One compact line, UTF-8 unescaped."""


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def rfc3339(wall_ms: int) -> str:
    """`2026-01-31T12:00:00.000Z`."""
    seconds, ms = divmod(wall_ms, 1_000)
    return f"{_second(seconds)}.{ms:03d}Z"


def message_record(message: Message) -> Record:
    """A message, exactly."""
    body = message.body
    return {
        "dot": f"{message.log.hex()}:{message.seq}",
        "log": message.log.hex(),
        "seq": message.seq,
        "room": message.room,
        "author": message.author,
        "body": body if isinstance(body, str) else {"base64": base64.b64encode(body).decode()},
        "said_at": rfc3339(message.wall),
        "stamp": message.stamp,
        "causes": [str(dot) for dot in message.causes],
    }


def clock_record(clock: VectorClock) -> Record:
    """{log: seq}, by log id."""
    return {log.hex(): seq for log, seq in clock.items()}


def member_record(member: Member, wall_ms: int, now: int, *, is_self: bool) -> Record:
    """A member as this node sees it; `since` is when its state changed here."""
    row = member.row
    return {
        "id": row.id.hex(),
        "name": row.name,
        "address": str(row.address),
        "state": row.state.name.lower(),
        "incarnation": row.incarnation,
        "since": rfc3339(wall_ms - (now - member.since) // 1_000),
        "rtt_ms": None if member.rtt is None else round(member.rtt / 1_000, 3),
        "health": member.health,
        "self": is_self,
    }


def plain(counts: Mapping[str, int]) -> Record:
    """Counters by name, the zero ones left out."""
    return {name: counts[name] for name in sorted(counts) if counts[name]}
