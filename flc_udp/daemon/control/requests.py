"""Requests of the control socket: one line is one JSON object, and each argument has its check.

Every function that reads one raises FlcError, which names the argument and says what is allowed.
How an answer is made a line, and how an error is told, stands at the end.
"""

import base64
import datetime as dt
import sqlite3
from collections.abc import Sequence

from flc_udp.config import ONCE_REMEMBERED
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.json_lines import compact, read_json
from flc_udp.model.labels import check_label
from flc_udp.model.visible import brief
from flc_udp.waist.ports import Once
from flc_udp.waist.says import WaitFor
from flc_udp.wire.message_json import Record

LINE_BYTES_MAX = 8 << 20
"""A request has at most this many bytes: room for the largest body, escaped."""

TIMEOUT_S = 10.0
"""A say with `wait` waits this long for others unless it says otherwise."""

TIMEOUT_S_MAX = 86_400

ONCE_LIMIT = 1 << 63
"""Numbers of `once` are kept in 64 bits, signed."""

NUMBER_LIMIT = 1 << 62

BODIES_A_SAY = 16_384
"""One say has at most this many messages. A turn takes a part of them."""

EXAMPLE = 'a request is one line: {"op":"status"}'
SINCE = "a time with its zone is allowed, as 2026-01-31T12:00:00Z"


def parse(line: bytes) -> Record:
    """Read one request."""
    try:
        request = read_json(line)
    except ValueError as error:
        raise FlcError(f"a line is not JSON: {error}", EXAMPLE) from error
    if not isinstance(request, dict):
        raise FlcError("a line is not a JSON object", EXAMPLE)
    return request


def room_of(request: Record) -> str | None:
    """The room of a query; None for all rooms."""
    room = request.get("room")
    if room is None:
        return None
    if not isinstance(room, str):
        raise FlcError(f"room is {brief(room)}", "a text is allowed")
    check_label("room", room)
    return room


def number_of(name: str, value: object) -> int:
    """A whole number from 0."""
    if type(value) is not int or not 0 <= value < NUMBER_LIMIT:
        raise FlcError(f"{name} is {brief(value)}", "a whole number from 0 is allowed")
    return value


def wall_ms_of(text: object) -> int | None:
    """A time, in ms since 1970; None where none is given."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError as error:
        raise FlcError(f"since is {brief(text)}", SINCE) from error
    if moment.tzinfo is None:
        raise FlcError(f"since is {brief(text)} without a zone", SINCE)
    return max(int(moment.timestamp() * 1_000), 0)


def bodies_of(request: Record) -> tuple[Sequence[str | bytes], bool]:
    """The bodies of a say, and whether they were given as a list."""
    if "bodies" not in request:
        return (body_of(request.get("body")),), False
    bodies = request["bodies"]
    if "body" in request or not isinstance(bodies, list) or not 1 <= len(bodies) <= BODIES_A_SAY:
        raise FlcError(
            "a say has one body, or bodies in a list",
            f"a list of 1 to {BODIES_A_SAY} bodies is allowed, and no body beside it",
        )
    return list(map(body_of, bodies)), True


def body_of(body: object) -> str | bytes:
    """The body of a message."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict) and isinstance(body.get("base64"), str):
        try:
            return base64.b64decode(body["base64"], validate=True)
        except ValueError as error:
            raise FlcError("body is not base64", 'bytes go as {"base64":"…"}') from error
    raise FlcError("a say needs a body", 'a text, or {"base64":"…"} for bytes')


def timeout_s_of(timeout: object) -> float:
    """How long a say with `wait` waits, in seconds."""
    match timeout:
        case None:
            return TIMEOUT_S
        case int(seconds) | float(seconds) if type(seconds) is not bool:
            if 0 <= seconds <= TIMEOUT_S_MAX:  # NaN is not in this range.
                return float(seconds)
    hint = f"a number of seconds up to {TIMEOUT_S_MAX} is allowed"
    raise FlcError(f"timeout is {brief(timeout)}", hint)


def wait_of(wait: object) -> WaitFor | None:
    """How many other nodes a say waits for."""
    match wait:
        case None | "all":
            return wait
        case int(count) if type(count) is int and count >= 0:
            return count
    raise FlcError(f"wait is {brief(wait)}", "a number of other nodes is allowed, or all")


def once_of(once: object, count: int) -> Once | None:
    """The client and the number of the first of its `count` messages, where the say has one."""
    if once is not None and count > ONCE_REMEMBERED:
        raise FlcError(f"once with {count} bodies", f"at most {ONCE_REMEMBERED} are allowed")
    match once:
        case None:
            return None
        case [str(client), int(n)] if type(n) is int and 0 < n <= ONCE_LIMIT - count:
            check_label("client", client)
            return client, n
        case _:
            hint = "a client's name and a rising number from 1 are allowed"
            raise FlcError(f"once is {brief(once)}", hint)


# --- Answers --------------------------------------------------------------------------------------


def tag_of(request: Record) -> bytes:
    """What ends each line that answers a request: its `id`, if it has one."""
    request_id = request.get("id")
    return b"" if request_id is None else b',"id":' + compact(request_id)


def tagged(record: Record, tag: bytes) -> bytes:
    """The line of an answer. No answer is empty."""
    return compact(record)[:-1] + tag + b"}"


def told(error: FlcError | StoreFailed) -> Record:
    """What a client is told of an error: of StoreFailed, that the log cannot be read."""
    if isinstance(error, StoreFailed):
        is_disk = isinstance(error.__cause__, sqlite3.OperationalError)
        hint = "look at the disk" if is_disk else "`flc fsck` tells what is damaged"
        error = FlcError(f"the log cannot be read: {error}", f"{hint}; see `flc status`")
    return {"error": str(error), "hint": error.hint}
