"""Fields of packets as they come, each checked: what is returned has its type and its limits.

All raise Malformed, and nothing else.
"""

from __future__ import annotations

from typing import Any

from flc_udp.config import HASH_BYTES, ID_BYTES, SEQ_LIMIT
from flc_udp.model.drops import Drop
from flc_udp.model.errors import Malformed

NUMBER_LIMIT = 1 << 64

Fields = tuple[Any, ...]


def a_number(value: object, limit: int = NUMBER_LIMIT) -> int:
    """A whole number below `limit`."""
    # `type(x) is int`: msgpack's true must not pass for 1.
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed(Drop.NUMBER_OUT_OF_RANGE)
    return value


def a_flag(value: object) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Malformed(Drop.FLAG_NOT_BOOLEAN)
    return value


def an_id(value: object) -> bytes:
    """8 bytes of an id."""
    if type(value) is not bytes or len(value) != ID_BYTES:
        raise Malformed(Drop.ID_NOT_8_BYTES)
    return value


def a_hash(value: object) -> bytes:
    """8 bytes of a hash."""
    if type(value) is not bytes or len(value) != HASH_BYTES:
        raise Malformed(Drop.HASH_NOT_8_BYTES)
    return value


def some_bytes(value: object) -> bytes:
    """Any bytes."""
    if type(value) is not bytes:
        raise Malformed(Drop.BYTES_EXPECTED)
    return value


def an_array(value: object, at_least: int = 0) -> Fields:
    """An array of so many fields or more."""
    if type(value) is not tuple or len(value) < at_least:
        raise Malformed(Drop.ARRAY_EXPECTED)
    return value


def a_seq(value: object) -> int:
    """A sequence number, from 1."""
    seq = a_number(value, SEQ_LIMIT)
    if seq == 0:
        raise Malformed(Drop.NUMBER_OUT_OF_RANGE)
    return seq
