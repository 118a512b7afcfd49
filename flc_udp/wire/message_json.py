"""A message as the JSON object that people and scripts read.

The object follows from the message alone, key for key, so nodes that hold the same messages print
the same lines.
"""

import base64
import time
from functools import lru_cache

from flc_udp.model.message import Message
from flc_udp.model.units import Millis

Record = dict[str, object]
"""A JSON object."""


@lru_cache(maxsize=256)
def _second(wall_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s))


def rfc3339(wall_ms: Millis) -> str:
    """Write a moment as `2026-01-31T12:00:00.000Z`."""
    seconds, ms = divmod(wall_ms, 1_000)
    return f"{_second(seconds)}.{ms:03d}Z"


def body_record(body: str | bytes) -> str | dict[str, str]:
    """Give a body as JSON: text as it is, and bytes as `{"base64": …}`."""
    return body if isinstance(body, str) else {"base64": base64.b64encode(body).decode()}


def message_record(message: Message) -> Record:
    """Give the object that shows a message, as `flc log --json` prints it."""
    return {
        "dot": f"{message.log.hex()}:{message.seq}",
        "log": message.log.hex(),
        "seq": message.seq,
        "room": message.room,
        "author": message.author,
        "body": body_record(message.body),
        "said_at": rfc3339(message.wall),
        "stamp": message.stamp,
        "causes": [str(dot) for dot in message.causes],
    }
