"""Tags: what an operator says about a node, as `role=db`, so that others find it.

Rules. Each key occurs once, and tags stand in the order of their keys. Keys and values are made of
the same characters as names. All tags of a node are small together, because they travel with every
row about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from flc_udp.config import TAGS_BYTES_MAX, TAGS_MAX
from flc_udp.model.errors import Drop, FlcError
from flc_udp.model.labels import is_label, label_problem


class Tag(NamedTuple):
    """A key and its value, each of 1 to 128 bytes, as a name. The key has no `=`."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


Tags = tuple[Tag, ...]


def parse_tag(text: str) -> Tag:
    """Read one `KEY=VALUE`; raises FlcError."""
    key, _, value = text.partition("=")
    for part, name in ((key, "key"), (value, "value")):
        problem = label_problem(part)
        if problem is not None:
            what = f"its {name} {problem}" if "=" in text else "it has no ="
            raise FlcError(f"tag {text[:40]!r}: {what}", "a tag is KEY=VALUE, as role=db")
    return Tag(key, value)


def parse_tags(texts: Iterable[str]) -> Tags:
    """Read all `KEY=VALUE` of a node, in any order; raises FlcError."""
    tags = tuple(sorted(map(parse_tag, texts)))
    for one, other in pairwise(tags):
        if one.key == other.key:
            raise FlcError(f"tag {one.key[:40]!r} is given twice", "a key has one value")
    if len(tags) > TAGS_MAX:
        raise FlcError(f"there are {len(tags)} tags", f"at most {TAGS_MAX} are allowed")
    if _size_bytes(tags) > TAGS_BYTES_MAX:
        allowed = f"keys and values may have {TAGS_BYTES_MAX} bytes together"
        raise FlcError(f"tags have {_size_bytes(tags)} bytes", allowed)
    return tags


def is_tag(key: object, value: object) -> bool:
    """Whether two values are the key and the value of a tag."""
    return is_label(key) and is_label(value) and "=" not in key


def tags_fault(tags: Tags) -> Drop | None:
    """Say why no node can have these tags together."""
    if len(tags) > TAGS_MAX:
        return Drop.MEMBER_TAGS_TOO_MANY
    if any(one.key >= other.key for one, other in pairwise(tags)):
        return Drop.MEMBER_TAGS_OUT_OF_ORDER
    if _size_bytes(tags) > TAGS_BYTES_MAX:
        return Drop.MEMBER_TAGS_TOO_LONG
    return None


def _size_bytes(tags: Tags) -> int:
    return sum(len(part.encode()) for tag in tags for part in tag)
