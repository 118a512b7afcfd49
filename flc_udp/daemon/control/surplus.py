"""A connection too many: it is told so, whatever it was about to ask.

Promise: who is turned away reads why. A socket closed at once breaks the pipe under a request that
comes a moment later, and its writer would take that for a daemon that has died.
"""

from __future__ import annotations

import asyncio

from flc_udp.daemon.records import encode

REFUSAL = encode({"ok": False, "error": "too many connections", "hint": "close some of them"})

PATIENCE_S = 1.0
"""For the other end to read and go."""

LINGERING_MAX = 64
"""Each costs a file descriptor until it goes; beyond that many the socket is closed at once."""


class TurnedAway:
    """Those who were told, and have not gone yet."""

    def __init__(self) -> None:
        self._lingering: dict[_Lingerer, None] = {}
        self.count = 0
        """All that ever were."""

    def add(self, transport: asyncio.Transport) -> None:
        """Say why, say no more, and close when the other end does, or soon."""
        self.count += 1
        transport.write(f"{REFUSAL}\n".encode())
        if len(self._lingering) >= LINGERING_MAX:
            return transport.close()
        lingerer = _Lingerer(self._lingering)
        transport.set_protocol(lingerer)
        transport.write_eof()
        asyncio.get_running_loop().call_later(PATIENCE_S, transport.close)
        return None


class _Lingerer(asyncio.Protocol):
    """Reads what is asked, for nobody, until the other end has read its answer."""

    def __init__(self, all_of_them: dict[_Lingerer, None]) -> None:
        self._all = all_of_them
        self._all[self] = None

    def data_received(self, data: bytes) -> None:
        """It does not know yet."""

    def connection_lost(self, error: Exception | None) -> None:
        """It has gone, by itself (an end of file closes, unless a protocol objects) or not."""
        self._all.pop(self, None)
