"""The lines of the control socket, and the errors that they stand for."""

from __future__ import annotations

import json
from typing import Any

from flc_udp.model.errors import FlcError

Record = dict[str, Any]
"""One JSON object of the control socket, without the `id` that belongs to the connection."""

REQUEST_BYTES_MAX = 8 << 20
"""The daemon does not read a line that is longer than this."""

ANSWER_BYTES_MAX = 32 << 20
"""The daemon writes no line that is longer than this. The largest message fits, even if each of its
bytes is escaped."""

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Writes a record as JSON without spaces, in unescaped UTF-8, for the socket and for stdout."""


class DaemonGoneError(FlcError):
    """The connection ended. An unanswered request may have been carried out, or may not."""


def request_line(request: Record) -> bytes:
    """Encode a request; raises FlcError if the daemon would not read it."""
    try:
        line = compact(request).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise FlcError("the text is not valid Unicode", "say it as bytes") from error
    if len(line) > REQUEST_BYTES_MAX:
        problem = f"the request has {len(line)} bytes, allowed are {REQUEST_BYTES_MAX}"
        raise FlcError(problem, "say less at once")
    return line


def refusal(record: Record) -> FlcError:
    """Return the error that a refusing answer stands for."""
    return FlcError(str(record.get("error", "refused")), str(record.get("hint", "see its log")))
