"""Looking up names, in threads that nobody has to wait for.

Rules. A resolver may hang for minutes, and nothing can interrupt it. So each look-up has a thread
of its own, which the process does not wait for when it ends.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

Found = list[tuple[Any, ...]]
"""What `socket.getaddrinfo` gives."""

Outcome = Found | Exception


def look_up(host: str, port: int, kind: socket.SocketKind) -> Found:
    """Give all addresses of a name; raises OSError or UnicodeError. Ctrl-C ends the waiting."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    _begin(host, port, kind, outcomes.put)
    outcome = outcomes.get()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def look_up_soon(host: str, port: int, kind: socket.SocketKind) -> Found:
    """Give all addresses of a name, while the loop goes on; raises OSError or UnicodeError."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Found] = loop.create_future()

    def settle(outcome: Outcome) -> None:
        if future.done():
            return  # Nobody waits any more.
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def tell(outcome: Outcome) -> None:
        with suppress(RuntimeError):  # The loop was closed meanwhile.
            loop.call_soon_threadsafe(settle, outcome)

    _begin(host, port, kind, tell)
    return await future


def _begin(host: str, port: int, kind: socket.SocketKind, tell: Callable[[Outcome], None]) -> None:
    def work() -> None:
        try:
            tell(socket.getaddrinfo(host, port, type=kind))
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            tell(error)

    Thread(target=work, name="flc-lookup", daemon=True).start()
