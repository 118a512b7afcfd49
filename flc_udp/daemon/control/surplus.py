"""A connection too many: the client is told so, whatever it was about to ask.

Promise: a client that is turned away can read why. If its socket were closed at once, a request
that comes a moment later would meet a broken pipe, and the client would think that the daemon had
died.
"""

from __future__ import annotations

import asyncio

from flc_udp.daemon.records import encode

REFUSAL = encode({"ok": False, "error": "too many connections", "hint": "close some of them"})

PATIENCE_S = 1.0
"""The other end has this long to read its answer and go."""

LINGERING_MAX = 64
"""This many may linger, because each costs a descriptor. Others are closed at once."""


class TurnedAway:
    """The clients that were told and have not gone yet."""

    def __init__(self) -> None:
        self._lingering: dict[_Lingerer, None] = {}
        self.count = 0
        """How many were ever turned away."""

    def add(self, transport: asyncio.Transport) -> None:
        """Say why, and close when the other end does, or soon."""
        self.count += 1
        transport.write(f"{REFUSAL}\n".encode())
        if len(self._lingering) >= LINGERING_MAX:
            transport.close()
            return
        lingerer = _Lingerer(self._lingering)
        transport.set_protocol(lingerer)
        transport.write_eof()
        asyncio.get_running_loop().call_later(PATIENCE_S, transport.close)


class _Lingerer(asyncio.Protocol):
    """Reads requests and drops them, until the other end has read its answer."""

    def __init__(self, all_of_them: dict[_Lingerer, None]) -> None:
        self._all = all_of_them
        self._all[self] = None

    def data_received(self, data: bytes) -> None:
        """The client does not know yet that it was turned away."""

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone, or its time is out."""
        self._all.pop(self, None)
