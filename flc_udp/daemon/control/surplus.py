"""A connection too many: the client is told so, whatever it was about to ask.

Promise: a client that is turned away can read why. If its socket were closed at once, a request
that comes a moment later would meet a broken pipe, and the client would think that the daemon had
died.
"""

import asyncio

from flc_udp.model.json_lines import compact

REFUSAL = compact({"ok": False, "error": "too many connections", "hint": "close some of them"})

PATIENCE_S = 1.0
"""The other end has this long to read its answer and go."""

LINGERING_MAX = 64
"""This many may linger, because each costs a descriptor. Others are closed at once."""


class TurnedAway:
    """The clients that were told and have not gone yet."""

    def __init__(self, lingering_max: int) -> None:
        """So many may linger at a time."""
        self._lingering_max = lingering_max
        self._lingering: list[asyncio.Transport] = []
        self.count = 0
        """How many were ever turned away."""

    def add(self, transport: asyncio.Transport) -> None:
        """Say why, and close when the other end does, or soon."""
        self.count += 1
        transport.write(REFUSAL + b"\n")
        self._lingering = [other for other in self._lingering if not other.is_closing()]
        if len(self._lingering) >= self._lingering_max:
            transport.close()
            return
        self._lingering.append(transport)
        # This protocol drops what the client asks before it has read that it was turned away.
        transport.set_protocol(asyncio.Protocol())
        transport.write_eof()
        asyncio.get_running_loop().call_later(PATIENCE_S, transport.close)
