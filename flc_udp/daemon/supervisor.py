"""Tells the service manager that the node is ready, healthy or not, reloading, or stopping.

The protocol is sd_notify(3): datagrams to the socket that $NOTIFY_SOCKET names. Without that
variable nothing here does anything.

Rules. The watchdog is fed only at the end of a turn of the node. The timer only asks for a turn. So
the manager kills a loop that stands still, and also one that turns without the node. Telling never
waits: what the manager does not take is told again at the next beat.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

from flc_udp.daemon.ground import LoopGround

BEAT_S = 2.0
"""The longest time between two looks at the node's health."""

STATUS_CHARS_MAX = 500


class Supervisor:
    """Tells the service manager about one node."""

    def __init__(
        self, environ: Mapping[str, str], ground: LoopGround, line: Callable[[], str]
    ) -> None:
        self._path = _path_of(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_of(environ)
        self._ground = ground
        self._line = line
        self.beat_s = min(BEAT_S, (self._watchdog_s or 2 * BEAT_S) / 2)
        """The time between two beats: at most half of what the watchdog allows."""
        self._told: list[str] = []
        """The readiness and status that the manager took last."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def ready(self) -> None:
        """The node takes posts. Tell this, and from now on tell how the node is."""
        if self._path:
            self._ground.after_turn.append(self._turned)
            self._beat()

    def reloading(self) -> None:
        """Tell that the settings are about to be read again; `reloaded` tells the end of it."""
        if self._timer is not None:
            now_us = time.monotonic_ns() // 1_000
            self.tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def reloaded(self) -> None:
        """Tell with the next turn that the node is ready, whether or not the settings were good."""
        if self._timer is not None:
            self._told, self._is_due = [], True
            self._ground.turn_soon()

    def stopping(self) -> None:
        """Tell that the node leaves. From now on the manager waits as long as for a stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._is_due = None, False
            self.tell("STOPPING=1", "STATUS=leaving")

    def tell(self, *lines: str) -> bool:
        """Send these assignments in one datagram. False: the manager did not take them."""
        # A status may name a seed that was typed in another encoding than UTF-8.
        datagram = "\n".join(lines).encode(errors="backslashreplace")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(datagram, self._path)
            except OSError:
                return False
        return True

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
        watchdog = [] if self._watchdog_s is None else ["WATCHDOG=1"]
        if (news or watchdog) and self.tell(*news, *watchdog):
            self._told = facts


def _path_of(text: str) -> str:
    """A path, or an abstract name with a zero byte for its `@`. It is "" for anything else."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_of(environ: Mapping[str, str]) -> float | None:
    """$WATCHDOG_USEC in seconds, if it is meant for this process and not for a parent."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and text.isascii() and int(text) > 0 else None
