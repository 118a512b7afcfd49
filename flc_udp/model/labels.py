"""Names that people give: of rooms, of authors, and of nodes."""

from functools import lru_cache
from typing import TypeGuard

from flc_udp.config import LABEL_BYTES_MAX
from flc_udp.model.errors import FlcError


@lru_cache(maxsize=4096)
def label_problem(label: str) -> str | None:
    """What is wrong with a room, author or node name, or None.

    1-128 bytes of UTF-8 without U+0000-001F and U+007F-009F; no normalization, case matters.
    """
    try:
        size = len(label.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    if not 1 <= size <= LABEL_BYTES_MAX:
        return f"has {size} bytes of UTF-8, allowed are 1 to {LABEL_BYTES_MAX}"
    if any(c <= "\x1f" or "\x7f" <= c <= "\x9f" for c in label):
        return "has control characters"
    return None


def is_label(value: object) -> TypeGuard[str]:
    """Whether any value at all is a name; what is too long is not even remembered."""
    return type(value) is str and len(value) <= LABEL_BYTES_MAX and label_problem(value) is None


def check_label(kind: str, label: str) -> None:
    """Raise FlcError where `label` is no room, author or node name; `kind` says which it is."""
    problem = label_problem(label)
    if problem is not None:
        raise FlcError(
            f"{kind} {label[:40]!r} {problem}",
            f"1 to {LABEL_BYTES_MAX} bytes of UTF-8 without control characters are allowed",
        )
