"""A session of `flc udp`: lines of stdin go out of one socket, and what comes in is printed.

Rules. One line is one datagram, and one datagram that came is one line. What is sent is a
visitor's. In listen mode lines go to the peer that last sent a datagram that could be read, so junk
does not lead them anywhere else. Like nc, the session stays after the end of input.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast

from flc_udp.cli import pipes
from flc_udp.cli.complaint import DONE, FAILED, SILENT, complain
from flc_udp.cli.wire.datagram_lines import (
    KEY_HINT,
    LINE_BYTES_MAX,
    TypedDatagram,
    read_datagram,
    seal_line,
    seal_packets,
    summary_of,
)
from flc_udp.cli.wire.probe import PATIENCE_S, address_of, visitors_ping
from flc_udp.client import compact
from flc_udp.model.address import NO_HOST, split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.wire.seal import Seal

STDIN, STDOUT = 0, 1

ARRIVED_MAX = 4_096
"""At most this many datagrams wait to be printed; others are dropped, and -v says so."""

READ_A_TURN = 64
"""At most this many datagrams are decoded before stdin and the socket get their turn."""

LISTEN = ("listen on", "give another address, or `-l 0 -v` for any free port")
SEND = ("send to", "write HOST and PORT of a host that resolves and that there is a route to")

SocketAddress = tuple[Any, ...]
"""An address as the socket has it: host and port, and two more numbers with IPv6."""


class UdpSession(asyncio.DatagramProtocol):
    """One run: what was sent, what came, and the reasons to quit."""

    def __init__(self, seal: Seal, args: argparse.Namespace) -> None:
        self._seal, self._args = seal, args
        self._silence_s: float = PATIENCE_S if args.probe else math.inf
        if args.silence is not None:
            self._silence_s = args.silence
        self._arrived: deque[tuple[bytes, SocketAddress]] = deque()
        self._woken, self._writable, self._has_peer = (asyncio.Event() for _ in range(3))
        self._writable.set()
        self._peer: SocketAddress | None = None
        """The peer that last spoke, in listen mode; otherwise the socket knows its only one."""
        self._sent = self._answered = self._refused = 0
        self._is_printing = self._is_unreachable = False

    async def run(self) -> int:
        """Go on until there is a reason to quit, and return the exit code."""
        await self._open()
        self._touch()
        reasons: list[Coroutine[Any, Any, None]] = [
            self._show(), self._wait_for_silence(), pipes.reader_gone(STDOUT)
        ]  # fmt: skip
        if self._args.probe:
            self._send(seal_packets([visitors_ping()], self._seal))
        else:
            reasons.append(self._speak())
        tasks = list(map(asyncio.create_task, reasons))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._transport.close()
        if self._refused:
            return FAILED
        if self._answered or not self._sent:
            return DONE
        complain(f"{self._far()} did not answer", f"is it there? {KEY_HINT}")
        return SILENT

    # --- The socket -----------------------------------------------------------------------------

    async def _open(self) -> None:
        listens = self._args.listen is not None
        where = self._args.listen if listens else self._args.target
        end = split_host_port(where)
        local, remote = (end, None) if listens else (None, end)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: self, local, remote)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or NO_HOST
            act, hint = LISTEN if listens else SEND
            raise FlcError(f"cannot {act} {where}: {reason}", hint) from error
        if listens:
            name = self._transport.get_extra_info("sockname")
            self._note(f"listening at {address_of(name)}")
        else:
            self._has_peer.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: the socket is ready."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        """Keep one datagram until it can be read."""
        if not self._args.probe:  # A probe does not wait longer because junk came.
            self._touch()
        if len(self._arrived) < ARRIVED_MAX:
            self._arrived.append((data, addr))
            self._woken.set()
        else:
            self._note(f"dropped {len(data)} bytes from {address_of(addr)}: too many wait")

    def error_received(self, exc: Exception) -> None:
        """Note what the system says about a datagram that was sent (by ICMP, for example)."""
        self._note(f"not delivered to {self._far()}: {getattr(exc, 'strerror', exc)}")
        self._is_unreachable = True
        self._woken.set()

    def pause_writing(self) -> None:
        """Send nothing: the system takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Send again."""
        self._writable.set()

    # --- The reasons to quit ----------------------------------------------------------------------

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
        """Read and print what comes; a probe quits at the first datagram that can be read."""
        while not (self._args.probe and (self._answered or self._is_unreachable)):
            await self._woken.wait()
            count = min(len(self._arrived), READ_A_TURN)
            lines = [self._read(*self._arrived.popleft()) for _ in range(count)]
            if not self._arrived:
                self._woken.clear()
            if not self._args.probe:
                await self._print(b"".join(lines))

    async def _wait_for_silence(self) -> None:
        """Wait until nothing was sent or received for the time of -w, and all is printed."""
        loop = asyncio.get_running_loop()
        while True:
            left_s = self._touched_s + self._silence_s - loop.time()
            if left_s <= 0 and not self._arrived and not self._is_printing:
                return
            await asyncio.sleep(max(left_s, 0.01))

    def _touch(self) -> None:
        self._touched_s = asyncio.get_running_loop().time()

    # --- One datagram -----------------------------------------------------------------------------

    def _say(self, number: int, line: bytes) -> None:
        try:
            self._send(seal_line(line, self._seal))
        except FlcError as error:
            self._refused += 1
            complain(f"line {number}: {error}", error.hint)

    def _send(self, typed: TypedDatagram) -> None:
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
        """With -v, tell a fact on stderr, and with -x too the bytes of its datagram."""
        if self._args.verbose:
            shown = f"\n  {datagram.hex()}" if self._args.hex and datagram else ""
            print(f"{fact}{shown}", file=sys.stderr, flush=True)
