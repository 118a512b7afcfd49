"""How people see records: times, tables, and remote text that cannot drive the terminal.

All functions are pure. Times are local on a terminal and UTC in a pipe. What `--json` prints never
goes through here.
"""

import os
import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from zlib import crc32

from flc_udp.client import Record
from flc_udp.model.json_lines import compact
from flc_udp.model.visible import visible, visible_body, visible_json

AUTHOR_COLOURS = (31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96)
"""These SGR foregrounds can be told apart on black and on white; grey and white are left out."""

SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB")
"""Each unit is a thousand times the one before it."""


def json_line(value: object) -> bytes:
    """Write a line of JSON for stdout."""
    return for_stdout(compact(value))


def for_stdout(line: bytes) -> bytes:
    """Return a line of JSON; on a terminal what is not seen in it is escaped, as JSON allows."""
    return visible_json(line.decode()).encode() if sys.stdout.isatty() else line


def body_bytes(message: Record) -> bytes:
    """Return the body exactly as it was said."""
    body = message["body"]
    return body.encode() if isinstance(body, str) else b64decode(body["base64"])


def body_text(message: Record) -> str:
    r"""Return the body for people: bytes that are no text look like \xff."""
    return visible_body(body_bytes(message).decode(errors="backslashreplace"))


def wants_colour(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether stdout is a terminal that should be coloured (no-color.org)."""
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def author_text(author: str, *, colour: bool) -> str:
    """Return an author's name, in a colour that depends on the name alone."""
    if not colour:
        return visible(author)
    code = AUTHOR_COLOURS[crc32(author.encode()) % len(AUTHOR_COLOURS)]
    return f"\x1b[{code}m{visible(author)}\x1b[0m"


def clock_time(said_at: str) -> str:
    """Return the local time of day of an RFC 3339 time."""
    return datetime.fromisoformat(said_at).astimezone().strftime("%H:%M:%S")


def time_text(said_at: str, *, local: bool) -> str:
    """Return an RFC 3339 time as local date and time for a terminal, or in UTC for a pipe."""
    moment = datetime.fromisoformat(said_at)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if local else rfc3339(moment)


def rfc3339(moment: datetime) -> str:
    """Return the time in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_text(clock: Mapping[str, int]) -> str:
    """Return a vector clock as `LOG:SEQ LOG:SEQ`, in the order of the logs' ids."""
    return " ".join(f"{log}:{seq}" for log, seq in sorted(clock.items()))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align columns, each as wide as its widest cell: numbers to the right, None as a dash."""
    from wcwidth import ljust, rjust, width  # Loading its tables takes 20 ms, so only tables do it.

    cells = [[visible("-" if value is None else str(value)) for value in row] for row in rows]
    columns = list(zip(heads, *cells, strict=True))
    widths = [max(map(width, column)) for column in columns]
    first = rows[0] if rows else heads
    aligns = [rjust if isinstance(value, int | float) else ljust for value in first]
    lines = [
        "  ".join(align(cell, wide) for align, cell, wide in zip(aligns, row, widths, strict=True))
        for row in (heads, *cells)
    ]
    return "\n".join(line.rstrip() for line in lines)


def fitted(picture: str, columns: int, rows: int) -> str:
    """Return as many of the first lines as there are rows for, and in the last row what is left.

    A line that the terminal folds takes several rows. The first line is cut if it takes too many.
    """
    from wcwidth import width

    lines = picture.splitlines()
    heights = [max(-(-width(line) // columns), 1) for line in lines]
    if sum(heights) <= rows:
        return picture
    kept = next(n for n in range(len(lines), -1, -1) if not n or sum(heights[:n]) < rows)
    if not kept:
        return _cut(lines[0], columns * rows)
    return "\n".join((*lines[:kept], _cut(f"... {len(lines) - kept} more lines", columns)))


def _cut(line: str, cells: int) -> str:
    from wcwidth import width

    end = min(len(line), cells)
    while width(line[:end]) > cells:
        end -= 1
    return line[:end]


def count_text(count: int, noun: str) -> str:
    """Return `1 message` or `2 messages`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(size_bytes: int) -> str:
    """Return a size in the unit that a person would choose."""
    power = min((len(str(size_bytes)) - 1) // 3, len(SIZE_UNITS) - 1)
    return f"{size_bytes / 1000**power:.{1 if power else 0}f} {SIZE_UNITS[power]}"


def duration_text(span_s: float) -> str:
    """Return a duration in its two largest units."""
    left_s = int(span_s)
    parts: list[str] = []
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left_s = divmod(left_s, unit_s)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def counters_text(counters: Mapping[str, object]) -> str:
    """Return `{"datagrams": 3}` as `datagrams 3`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counters.items())
