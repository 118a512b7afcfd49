"""Requests of the control socket: one line, one JSON object, and what is said of a bad one."""

from __future__ import annotations

import json

from flc_udp.daemon.records import Record
from flc_udp.model.errors import FlcError, StoreFailed

LINE_BYTES_MAX = 8 << 20
"""A request: room for the largest body, escaped."""

EXAMPLE = 'a request is one line: {"op":"status"}'


def unreadable(error: StoreFailed) -> FlcError:
    """What a client is told while the log cannot be read."""
    return FlcError(f"the log cannot be read: {error}", "look at the disk; see `flc status`")


def parse(line: bytes, size: int) -> Record:
    """One request; `size` is the line's, of which a part is gone if it is too long."""
    if size > LINE_BYTES_MAX:
        raise FlcError(f"a line of {size} bytes", f"{LINE_BYTES_MAX} bytes are allowed")
    try:
        request = json.loads(line)
    except ValueError as error:
        raise FlcError(f"a line is not JSON: {error}", EXAMPLE) from error
    except RecursionError as error:
        raise FlcError("a line is nested too deeply", "a request is flat") from error
    if not isinstance(request, dict):
        raise FlcError("a line is not a JSON object", EXAMPLE)
    return request
