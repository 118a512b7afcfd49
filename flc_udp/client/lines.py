"""What stands in the lines of the control socket, and the errors that come out of them."""

from __future__ import annotations

import json
from typing import Any

from flc_udp.model.errors import FlcError

Record = dict[str, Any]
"""One JSON object of the control socket, without the `id` that belongs to the connection."""

REQUEST_BYTES_MAX = 8 << 20
"""The daemon reads no longer line."""

ANSWER_BYTES_MAX = 32 << 20
"""The daemon writes no longer line: it fits the largest message with each byte escaped."""

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Writes a record as JSON without spaces, in unescaped UTF-8, for the socket and for stdout."""


class DaemonGoneError(FlcError):
    """The connection ended. An unanswered request may have been carried out, or may not."""


def request_line(request: Record) -> bytes:
    """Encode a request; raises FlcError if the daemon would not read it."""
    try:
        line = compact(request).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise FlcError("text that is not valid Unicode", "say it as bytes") from error
    if len(line) > REQUEST_BYTES_MAX:
        problem = f"a request of {len(line)} bytes, allowed are {REQUEST_BYTES_MAX}"
        raise FlcError(problem, "say less at once")
    return line


def refusal(record: Record) -> FlcError:
    """Return the error that a refusing answer stands for."""
    return FlcError(str(record.get("error", "refused")), str(record.get("hint", "see its log")))
