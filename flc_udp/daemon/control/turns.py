"""Whose lines are done when: all clients have their turns, and the node has its own in between.

Promise: however much clients send at once, the loop does their lines for a few ms at a time. Then
datagrams, timers and commits have their turn, so no peer takes this node for dead meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

TURN_S = 0.008
"""The loop does lines for this long, of all clients together: hundreds of says."""

SHARE_S = 0.002
"""Where several clients wait, each has this much of it at a time,"""

SHARE_S_LEAST = 0.0005
"""or this much where they are many: a client with one line waits for a share of each other."""


class WithLines(Protocol):
    """One that has lines."""

    def do_lines(self, until_s: float) -> None:
        """Do lines until then, one at least, and ask for another turn where it has more."""

    def abort(self) -> None:
        """End it at once."""


class Turns:
    """The clients whose lines wait, in the order of their turns."""

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        self._failed = failed
        """Told of what nobody expected."""
        self._clients: dict[WithLines, None] = {}
        self._is_due = self._is_over = False

    def soon(self, client: WithLines) -> None:
        """Give this one a turn, behind those that wait already."""
        self._clients[client] = None
        self._call()

    def stop(self) -> None:
        """Do no more lines."""
        self._is_over = True

    def _call(self) -> None:
        if self._clients and not self._is_due and not self._is_over:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        over_s = time.monotonic() + TURN_S
        share_s = max(min(SHARE_S, TURN_S / max(len(self._clients), 1)), SHARE_S_LEAST)
        while self._clients and not self._is_over and (now_s := time.monotonic()) < over_s:
            client = next(iter(self._clients))
            del self._clients[client]
            try:
                client.do_lines(min(now_s + share_s, over_s))
            except Exception as error:  # noqa: BLE001  # a client fails alone
                self._failed("a client", error)
                client.abort()
        self._is_due = False
        self._call()
