"""Say once: a client numbers what it says, and a repeated number finds the first dot again.

A client's numbers rise. Its last `REMEMBERED` ones are kept with their dots, packed in one value,
oldest first; so a client costs one row, and a repeat is found after any restart.
"""

from __future__ import annotations

import struct

from flc_udp.config import ID_BYTES
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError

REMEMBERED = 1_024
"""Pairs kept for each client: what it may have in flight when the connection is lost."""

PAIR = struct.Struct(f">q{ID_BYTES}sq")
"""(number, log id, seq)."""


class Forgotten(FlcError):  # noqa: N818  # says what happened, as Malformed does
    """A client's number that is older than what is remembered: whether it was said is unknown."""

    def __init__(self, client: str, n: int, oldest: int) -> None:
        super().__init__(
            f"number {n} of client {client!r} is below {oldest}, the oldest it may repeat",
            f"a client's numbers rise, and only its last {REMEMBERED} are remembered",
        )


def said_after(said: bytes, n: int, dot: Dot) -> bytes:
    """The packed pairs with one more; the oldest makes room."""
    assert n > newest(said), "a client's numbers rise"
    return (said + PAIR.pack(n, dot.log, dot.seq))[-REMEMBERED * PAIR.size :]


def newest(said: bytes) -> int:
    """The greatest number said, or -1."""
    if not said:
        return -1
    number: int = PAIR.unpack_from(said, len(said) - PAIR.size)[0]
    return number


def find(client: str, said: bytes, n: int) -> Dot | None:
    """The dot said under `n`, None for a new number; raises Forgotten for one that is neither."""
    if n > newest(said):
        return None
    for number, log, seq in PAIR.iter_unpack(said):
        if number == n:
            return Dot(log, seq)
    oldest: int = PAIR.unpack_from(said)[0]
    # A number skipped among the remembered ones is as unknown as an old one: the next new one
    # is the only number known to be unsaid.
    raise Forgotten(client, n, oldest if n < oldest else newest(said) + 1)
