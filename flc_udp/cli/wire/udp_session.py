"""A session of `flc udp`: one socket, stdin's lines out of it, and what comes into it as lines.

Rules. One line is one datagram, and one datagram that came is one line. What is sent is a
visitor's: it is answered, and nobody's member. In listen mode lines go to the last peer whose
datagram could be read, so that junk leads them nowhere. Like nc it stays after the end of input.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast

from flc_udp.cli import pipes
from flc_udp.cli.complaint import complain
from flc_udp.cli.wire.datagram_lines import (
    KEY_HINT,
    LINE_BYTES_MAX,
    Typed,
    read_datagram,
    seal_line,
    seal_packets,
    summary_of,
)
from flc_udp.client import compact
from flc_udp.config import HASH_BYTES, ID_BYTES
from flc_udp.model.address import NO_HOST, Address, fold, split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.wire.packets import Ping
from flc_udp.wire.seal import Seal

STDIN, STDOUT = 0, 1
DONE, FAILED, SILENT = 0, 1, 3

PATIENCE_S = 1.5
"""How long -z waits for its answer, where -w does not say."""

ARRIVED_MAX = 4_096
"""Datagrams that wait to be printed; beyond it they are dropped, and -v says so."""

READ_A_TURN = 64
"""Datagrams decoded before stdin and the socket have another turn."""

SocketAddress = tuple[Any, ...]
"""As the socket has it: host and port, and two more numbers with IPv6."""


class Session(asyncio.DatagramProtocol):
    """One run: what was sent, what came, and the reasons to quit."""

    def __init__(self, seal: Seal, args: argparse.Namespace) -> None:
        self._seal, self._args = seal, args
        self._arrived: deque[tuple[bytes, SocketAddress]] = deque()
        self._woken, self._writable, self._has_peer = (asyncio.Event() for _ in range(3))
        self._writable.set()
        self._peer: SocketAddress | None = None
        """In listen mode the last that spoke; otherwise the socket knows its only one."""
        self._sent = self._answered = self._refused = 0
        self._is_printing = self._is_unreachable = False

    async def run(self) -> int:
        """Until one of the reasons to quit; the exit code."""
        await self._open()
        self._touch()
        speaking = self._probe() if self._args.probe else self._speak()
        reasons: list[Coroutine[Any, Any, None]] = [speaking, self._show(), self._silence()]
        tasks = [asyncio.create_task(r) for r in (*reasons, pipes.reader_gone(STDOUT))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._transport.close()
        return self._code()

    def _code(self) -> int:
        if self._refused:
            return FAILED
        if self._answered or not self._sent:
            return DONE
        complain(f"{self._far()} did not answer", f"is it there? {KEY_HINT}")
        return SILENT

    # --- The socket -----------------------------------------------------------------------------

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        listens = self._args.listen is not None
        where = self._args.listen if listens else self._args.target
        end = split_host_port(where)
        local, remote = (end, None) if listens else (None, end)
        try:
            await loop.create_datagram_endpoint(lambda: self, local, remote)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or NO_HOST
            if listens:
                hint = "give another address, or `-l 0 -v` for any free port"
                raise FlcError(f"cannot listen on {where}: {reason}", hint) from error
            hint = "write HOST and PORT of a host that resolves and that there is a route to"
            raise FlcError(f"cannot send to {where}: {reason}", hint) from error
        if listens:
            name = self._transport.get_extra_info("sockname")
            self._note(f"listening at {address_of(name)}")
        else:
            self._has_peer.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        """One datagram, to be read in its turn."""
        if not self._args.probe:  # junk is no answer to wait on for
            self._touch()
        if len(self._arrived) < ARRIVED_MAX:
            self._arrived.append((data, addr))
            self._woken.set()
        else:
            self._note(f"dropped {len(data)} bytes from {address_of(addr)}: too many wait")

    def error_received(self, exc: Exception) -> None:
        """The system's word on what was sent, by ICMP say."""
        self._note(f"not delivered to {self._far()}: {getattr(exc, 'strerror', exc)}")
        self._is_unreachable = True
        self._woken.set()

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    # --- The reasons to quit ----------------------------------------------------------------------

    async def _probe(self) -> None:
        """One ping; its answer is a reason to quit, and found by `_show`."""
        root, log = bytes(HASH_BYTES), bytes(ID_BYTES)
        ping = Ping(secrets.randbits(64), root, root, catching_up=False, log=log)
        self._send(seal_packets([ping], self._seal))
        await asyncio.Event().wait()

    async def _speak(self) -> None:
        """Send what stdin has; its end is no reason to quit."""
        await self._has_peer.wait()
        number = 0
        async for lines in pipes.line_batches(STDIN, LINE_BYTES_MAX):
            for line in lines:
                number += 1
                await self._writable.wait()
                if line.strip():
                    self._say(number, line)
        await asyncio.Event().wait()

    async def _show(self) -> None:
        """Read what comes, and print it; to a probe, what can be read is a reason to quit."""
        while not (self._args.probe and (self._answered or self._is_unreachable)):
            await self._woken.wait()
            count = min(len(self._arrived), READ_A_TURN)
            lines = [self._read(*self._arrived.popleft()) for _ in range(count)]
            if not self._arrived:
                self._woken.clear()
            if not self._args.probe:
                await self._print(b"".join(lines))

    async def _silence(self) -> None:
        """Wait for -w; what still has to be printed is no silence."""
        span = self._args.silence
        if span is None and not self._args.probe:
            await asyncio.Event().wait()
        span = PATIENCE_S if span is None else span
        loop = asyncio.get_running_loop()
        while True:
            left = self._touched + span - loop.time()
            if left <= 0 and not self._arrived and not self._is_printing:
                return
            await asyncio.sleep(max(left, 0.01))

    def _touch(self) -> None:
        self._touched = asyncio.get_running_loop().time()

    # --- One datagram -----------------------------------------------------------------------------

    def _say(self, number: int, line: bytes) -> None:
        try:
            self._send(seal_line(line, self._seal))
        except FlcError as error:
            self._refused += 1
            complain(f"line {number}: {error}", error.hint)

    def _send(self, typed: Typed) -> None:
        self._touch()
        self._sent += 1
        self._transport.sendto(typed.datagram, self._peer)
        summary = f"{len(typed.datagram)} bytes to {self._far()}: {summary_of(typed.packets)}"
        self._note(f"sent {summary}", typed.datagram)

    def _read(self, datagram: bytes, source: SocketAddress) -> bytes:
        reading = read_datagram(datagram, self._seal, with_hex=self._args.hex)
        word = "received" if reading.is_valid else "dropped"
        whence = address_of(source)
        self._note(f"{word} {len(datagram)} bytes from {whence}: {reading.summary}", datagram)
        if reading.is_valid:
            self._answered += 1
            if self._args.listen is not None:
                self._peer = source
                self._has_peer.set()
        return compact({"from": str(whence), **reading.record}).encode() + b"\n"

    async def _print(self, lines: bytes) -> None:
        self._is_printing = True
        await pipes.in_thread(lambda: pipes.write_all(STDOUT, lines))
        self._is_printing = False
        self._touch()

    def _far(self) -> str:
        return str(self._args.target if self._peer is None else address_of(self._peer))

    def _note(self, fact: str, datagram: bytes = b"") -> None:
        """With -v a fact for stderr, and with -x too the bytes it is about."""
        if self._args.verbose:
            shown = f"\n  {datagram.hex()}" if self._args.hex and datagram else ""
            print(f"{fact}{shown}", file=sys.stderr, flush=True)


def address_of(address: SocketAddress) -> Address:
    """A socket's address in its one spelling."""
    return fold(address[0].partition("%")[0], address[1])
