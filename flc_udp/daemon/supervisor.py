"""What a service manager is told: ready, how it is, turning, reloading, stopping (sd_notify(3)).

One datagram to the socket that $NOTIFY_SOCKET names; without it nothing here does anything.

Rules. The watchdog is fed at the end of a turn of the node and from nowhere else: the timer only
asks for a turn. So a loop that stands still, or turns without the node, is killed. Telling never
waits: what the manager does not take is told again with the next beat.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

from flc_udp.daemon.ground import LoopGround

BEAT_S = 2.0
"""Longest between two looks at the node's health."""

STATUS_CHARS_MAX = 500


class Notifier:
    """The socket of the service manager, if there is one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = _path_of(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_of(environ) if self.is_there else None
        """Within it the manager wants to hear that the node turns."""

    @property
    def is_there(self) -> bool:
        """Whether anybody listens."""
        return bool(self._path)

    def tell(self, *lines: str) -> bool:
        """Send these assignments in one datagram; False if they were not taken."""
        if not self.is_there:
            return False
        # A seed that was typed in no UTF-8 may be in a status.
        datagram = "\n".join(lines).encode(errors="backslashreplace")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(datagram, self._path)
            except OSError:
                return False
        return True


class Supervisor:
    """Keeps the service manager informed of one node."""

    def __init__(self, notifier: Notifier, ground: LoopGround, line: Callable[[], str]) -> None:
        self._notifier = notifier
        self._ground = ground
        self._line = line
        self.beat_s = min(BEAT_S, (notifier.watchdog_s or 2 * BEAT_S) / 2)
        """Half of what the watchdog grants, or less."""
        self._told: list[str] = []
        """Readiness and status, as the manager took them last."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def ready(self) -> None:
        """The node takes posts: say so, and go on saying how it is."""
        if self._notifier.is_there:
            self._ground.after_turn.append(self._turned)
            self._beat()

    def reloading(self) -> None:
        """Settings are read again; said before, because a manager may wait for both ends of it."""
        if self._timer is not None:
            now_us = time.monotonic_ns() // 1_000
            self._notifier.tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def reloaded(self) -> None:
        """It is ready again, whatever came of it: told with the next turn."""
        if self._timer is not None:
            self._told, self._is_due = [], True
            self._ground.turn_soon()

    def stopping(self) -> None:
        """The node leaves; from here on the manager's patience is that of a stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._is_due = None, False
            self._notifier.tell("STOPPING=1", "STATUS=leaving")

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.beat_s, self._beat)
        self._is_due = True
        self._ground.turn_soon()

    def _turned(self) -> None:
        if not self._is_due:
            return
        self._is_due = False
        status = " ".join(self._line().split())[:STATUS_CHARS_MAX]
        facts = ["READY=1", f"STATUS={status}"]
        news = [] if facts == self._told else facts
        watchdog = [] if self._notifier.watchdog_s is None else ["WATCHDOG=1"]
        if (news or watchdog) and self._notifier.tell(*news, *watchdog):
            self._told = facts


def _path_of(text: str) -> str:
    """A path, or with a zero byte for its `@` an abstract name; "" for what is neither."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_of(environ: Mapping[str, str]) -> float | None:
    """$WATCHDOG_USEC in seconds, if it is meant for this process and not for a parent of it."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and text.isascii() and int(text) > 0 else None
