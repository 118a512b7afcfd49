"""Names are looked up where nobody has to wait for a resolver that hangs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from threading import Event, current_thread

import pytest

from flc_udp.daemon.lookup import look_up, look_up_soon

FOUND = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 7))]

HANGS = """
import asyncio, socket, threading
from flc_udp.daemon import lookup
socket.getaddrinfo = lambda *_args, **_named: threading.Event().wait()
async def main():
    asyncio.create_task(lookup.look_up_soon("slow", 7, socket.SOCK_DGRAM))
    await asyncio.sleep(0.05)
asyncio.run(main())
"""


@pytest.mark.parametrize("problem", [None, OSError("no such name"), UnicodeError("no label")])
async def test_what_is_found_and_what_fails(
    monkeypatch: pytest.MonkeyPatch, problem: Exception | None
) -> None:
    """Both ways give the same, and the resolver runs in a thread that holds nobody."""
    threads = []

    def resolver(host: str, port: int, **_named: object) -> list[object]:
        threads.append(current_thread().daemon)
        if problem is not None:
            raise problem
        assert (host, port) == ("name", 7)
        return list(FOUND)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    outcomes = await asyncio.gather(
        look_up_soon("name", 7, socket.SOCK_DGRAM),
        asyncio.to_thread(look_up, "name", 7, socket.SOCK_DGRAM),
        return_exceptions=True,
    )
    assert outcomes == [problem or FOUND] * 2
    assert threads == [True, True]


async def test_who_gives_up_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waiting ends at once, and an answer that comes later harms nobody."""
    answers = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: answers.wait(60))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(look_up_soon("slow", 7, socket.SOCK_DGRAM), 0.01)
    answers.set()
    await asyncio.sleep(0.05)


def test_a_process_ends_while_a_resolver_hangs() -> None:
    """Without waiting for it."""
    assert subprocess.run([sys.executable, "-c", HANGS], timeout=20, check=False).returncode == 0
