"""How records look to people: times, tables, and remote text that cannot drive the terminal.

Pure functions. On a terminal times are local, in a pipe UTC; `--json` never comes through here.
"""

from __future__ import annotations

import os
import shutil
import sys
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from unicodedata import east_asian_width
from zlib import crc32

from flc_udp.client import Record

AUTHOR_COLOURS = (31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96)
"""SGR foregrounds that can be told apart on black and on white; grey and white are left out."""


def _visible_forms() -> dict[int, str]:
    """C0, DEL and C1 as pictures or escapes; bidi controls, which reorder what others wrote."""
    forms = {code: chr(0x2400 + code) for code in range(0x20) if code != ord("\t")}
    forms[0x7F] = "\u2421"
    forms |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    bidi = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    forms |= {code: f"\\u{code:04x}" for code in (*bidi, 0x2028, 0x2029)}
    return forms


_VISIBLE = _visible_forms()


def visible(text: str) -> str:
    r"""Control characters except tab made visible: ESC as ␛, a C1 byte as \x9b."""
    return text.translate(_VISIBLE)


def body_bytes(message: Record) -> bytes:
    """The body exactly as it was said."""
    body = message["body"]
    return body.encode() if isinstance(body, str) else b64decode(body["base64"])


def body_text(message: Record) -> str:
    r"""The body for people: bytes that are no text as \xff, control characters visible."""
    return visible(body_bytes(message).decode(errors="backslashreplace"))


def wants_colour(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stdout is a terminal that should be coloured (no-color.org)."""
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def author_text(author: str, *, colour: bool) -> str:
    """An author's name, in a colour that is the same everywhere and always."""
    if not colour:
        return visible(author)
    code = AUTHOR_COLOURS[crc32(author.encode()) % len(AUTHOR_COLOURS)]
    return f"\x1b[{code}m{visible(author)}\x1b[0m"


def clock_time(said_at: str) -> str:
    """RFC 3339 as the local time of day."""
    return datetime.fromisoformat(said_at).astimezone().strftime("%H:%M:%S")


def time_text(said_at: str | None, *, local: bool) -> str:
    """RFC 3339 as local date and time for a terminal, or as UTC with milliseconds for a pipe."""
    if not said_at:
        return "-"
    moment = datetime.fromisoformat(said_at)
    if local:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return rfc3339(moment)


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers stand right, None is a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    kinds = [isinstance(value, int | float) for value in next(iter(rows), heads)]
    widths = [max(map(_width, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for row in (list(heads), *cells):
        padded = (
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(row, widths, kinds, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "-" if value is None else visible(str(value))


def _width(text: str) -> int:
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def size_text(size: int) -> str:
    """Bytes with the unit a person would choose."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004  # SI units
            return f"{size} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration_text(seconds: float) -> str:
    """A span of time in its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def counters_text(counters: Mapping[str, object]) -> str:
    """`{"datagrams": 3}` as `datagrams 3`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counters.items())


def screen_size() -> tuple[int | None, int | None]:
    """Columns and rows of the terminal; none in a pipe, where lines are left as they are."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else (None, None)


def clear_screen() -> str:
    """What begins a new picture on a terminal; in a pipe pictures are only set apart."""
    return "\x1b[H\x1b[J" if sys.stdout.isatty() else "\n"
