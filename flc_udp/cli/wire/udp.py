"""`flc udp`: netcat for the wire. JSON lines go out as sealed datagrams, what comes is decoded.

`wire/packet_json.py` says how packets are typed, `datagram_lines.py` what a line and a record are.

Rules of a session. One line is one datagram, and one datagram that came is one line. What is sent
is a visitor's. It goes to all addresses of a name until one of them answers. A cookie is answered
with a hello, and what was sent last goes out again; neither is printed. In listen mode lines
go to the peer that last sent a datagram that could be read, so junk does not lead them anywhere
else. Like nc, the session stays after the end of input.
"""

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

from flc_udp.cli import pipes
from flc_udp.cli.conventions import DONE, FAILED, SILENT, complain, seconds
from flc_udp.cli.pipes import STDIN, STDOUT
from flc_udp.cli.text import json_line
from flc_udp.cli.wire import datagram_lines, hexdump, ping
from flc_udp.model.address import NO_HOST, Address, split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.model.visible import visible
from flc_udp.waist.sessions import ASKS_FOR_COOKIE, COOKIE_BYTES
from flc_udp.wire.packets import Cookie, Hello, Packet
from flc_udp.wire.seal import Seal, receiver_of

ARRIVED_MAX = 4_096
"""At most this many lines wait to be printed; more datagrams are dropped, and -v says so."""

LISTEN = ("listen on", "give another address, or `-l 0 -v` for any free port")
SEND = ("send to", "write HOST and PORT of a host that resolves and that there is a route to")

SocketAddress = tuple[Any, ...]
"""An address as the socket has it: host and port, and two more numbers with IPv6."""


def add_udp(parser: argparse.ArgumentParser) -> None:
    """`flc udp HOST PORT`, `-l PORT` or `--decode`."""
    parser.usage = "flc udp HOST PORT | -l [HOST:]PORT | --decode  [OPTION]..."
    parser.set_defaults(misused=parser.error)
    flag = parser.add_argument
    flag("target", metavar="HOST PORT", nargs="*", help="a node's UDP address")
    flag("-l", dest="listen", metavar="[HOST:]PORT", help="listen there, by default on 127.0.0.1")
    flag("-z", dest="probe", action="store_true", help="only probe: exit 0 if there is an answer")
    flag("-x", dest="hex", action="store_true", help="add the bytes, sealed and opened, as hex")
    flag("-v", dest="verbose", action="store_true", help="say what is sent, received and dropped")
    flag("-w", dest="silence", metavar="SECS", type=seconds, help="quit after SECS of silence")
    flag("--decode", action="store_true", help="read hex or `tcpdump -x` from stdin, send nothing")
    ping.add_key_flags(parser)


def udp(args: argparse.Namespace) -> int:
    """Speak with a node, listen, or decode, until there is a reason to quit."""
    if sum((bool(args.target), args.listen is not None, args.decode)) != 1:
        args.misused("one of HOST PORT, -l PORT and --decode is needed")
    if args.probe and not args.target:
        args.misused("-z needs HOST PORT")
    _join_addresses(args)
    seal = ping.visitors_seal(ping.given_ring(args))
    if args.decode:
        return decode(seal, with_hex=args.hex)
    return asyncio.run(UdpSession(seal, args).run())


def _join_addresses(args: argparse.Namespace) -> None:
    """Check the addresses, and spell both `HOST PORT` and `HOST:PORT` in one word."""
    if args.target:
        *hosts, port = args.target
        if len(hosts) > 1:
            args.misused(f"one HOST and one PORT are needed, not {' '.join(args.target)}")
        args.target = _joined(hosts[0], port) if hosts else port
        if not split_host_port(args.target)[1]:
            raise FlcError(f"nothing listens on port 0 of {args.target}", "write a port from 1")
    elif args.listen is not None:
        args.listen = args.listen if ":" in args.listen else _joined("127.0.0.1", args.listen)
        split_host_port(args.listen)


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host and host[0] != "[" else f"{host}:{port}"


def decode(seal: Seal, *, with_hex: bool) -> int:
    """Print the hex of stdin as records, without any network; 1 if some could not be read."""
    code = DONE
    batches = pipes.line_batches(STDIN, datagram_lines.LINE_BYTES_MAX)
    lines = (line.decode(errors="replace") for batch in batches for line in batch)
    for found in hexdump.captured(lines):
        if isinstance(found, FlcError):
            complain(str(found), found.hint)
            code = FAILED
            continue
        record = datagram_lines.read_datagram(found.datagram, seal, with_hex).record
        ends = {"from": found.source, "to": found.target}
        known = {name: str(end) for name, end in ends.items() if end is not None}
        print(json_line({**known, **record}).decode(), flush=True)
        code = FAILED if "error" in record else code
    return code


class UdpSession(asyncio.DatagramProtocol):
    """One run: what was sent, what came, and the reasons to quit."""

    def __init__(self, seal: Seal, args: argparse.Namespace) -> None:
        self._seal, self._args = seal, args
        self._listens = args.listen is not None
        shortest_s = ping.PATIENCE_S if args.probe else None
        self._silence = pipes.Silence(shortest_s if args.silence is None else args.silence)
        self._lines: list[bytes] = []
        """What came, decoded, and is not printed whole yet. Until then it is no silence."""
        self._woken, self._writable, self._has_peer = (asyncio.Event() for _ in range(3))
        self._writable.set()
        self._peer: SocketAddress | None = None
        """The peer that last spoke, in listen mode; otherwise the socket knows its only one."""
        self._ways: list[asyncio.DatagramTransport] = []
        """One to each address of the name; the first of those that have answered alone."""
        self._last: Sequence[Packet] = ()
        """What was sent last."""
        self._receivers: dict[Address, bytes] = {}
        """Which node is at an address, by the cookies that came from there."""
        self._sent = self._answered = self._refused = self._undelivered = 0

    async def run(self) -> int:
        """Go on until there is a reason to quit, and return the exit code."""
        await self._open()
        silence = self._silence.over(lambda: bool(self._lines))
        reasons = [self._show(), silence, pipes.reader_gone(STDOUT)]
        if self._args.probe:
            self._send([ping.visitors_ping()])
        else:
            reasons.append(self._speak())
        try:
            async with pipes.first_of(*reasons):
                pass
        finally:
            for way in self._ways:
                way.close()
        if self._refused:
            return FAILED
        if self._answered or not self._sent:
            return DONE
        complain(f"{self._far()} did not answer", f"is it there? {datagram_lines.KEY_HINT}")
        return SILENT

    # --- The socket -----------------------------------------------------------------------------

    async def _open(self) -> None:
        where, (act, hint) = self._args.target, SEND
        if self._listens:
            where, (act, hint) = self._args.listen, LISTEN
        from flc_udp.daemon.lookup import look_up_soon  # only here

        host, port = split_host_port(where)
        try:
            found = await look_up_soon(host, port, socket.SOCK_DGRAM)
            await self._open_ways([(family, end) for family, *_, end in found])
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or NO_HOST
            raise FlcError(f"cannot {act} {where}: {reason}", hint) from error
        if self._listens:
            name = self._ways[0].get_extra_info("sockname")
            self._note(f"listening at {ping.address_of(name)}")
        else:
            self._has_peer.set()
        self._silence.broken()

    async def _open_ways(self, ends: Sequence[tuple[socket.AddressFamily, SocketAddress]]) -> None:
        """Listen on the first of these addresses, or connect to as many of them as possible."""
        loop, problems = asyncio.get_running_loop(), []
        for family, end in dict.fromkeys(ends[:1] if self._listens else ends):
            with ExitStack() as on_failure:
                try:
                    sock = on_failure.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    sock.setblocking(False)
                    # The loop itself would leave out the interface of a link-local address.
                    (sock.bind if self._listens else sock.connect)(end)
                except OSError as error:
                    problems.append(error)
                    continue
                await loop.create_datagram_endpoint(lambda: self, sock=sock)
                on_failure.pop_all()
        if not self._ways:
            raise problems[0]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: the socket is ready."""
        self._ways.append(cast("asyncio.DatagramTransport", transport))

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        """Decode one datagram, and keep its line until it can be printed."""
        if not self._args.probe:  # A probe does not wait longer because junk came.
            self._silence.broken()
        if len(self._lines) < ARRIVED_MAX:
            self._lines += self._read(data, addr)
            self._woken.set()
        else:
            self._note(f"dropped {len(data)} bytes from {ping.address_of(addr)}: too many wait")

    def error_received(self, exc: Exception) -> None:
        """Note what the system says about a datagram that was sent (by ICMP, for example)."""
        self._note(f"not delivered to {self._far()}: {getattr(exc, 'strerror', exc)}")
        self._undelivered += 1
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
        async for first, lines in pipes.numbered_batches(STDIN, datagram_lines.LINE_BYTES_MAX):
            for number, line in enumerate(lines, first):
                await self._writable.wait()
                if line.strip():
                    self._say(number, line)
        await asyncio.Event().wait()

    async def _show(self) -> None:
        """Print what comes; a probe prints nothing, and quits at the first datagram of ours."""
        while not (self._args.probe and (self._answered or self._undelivered >= len(self._ways))):
            await self._woken.wait()
            self._woken.clear()
            count = len(self._lines)
            if not self._args.probe:
                await pipes.print_bytes(b"".join(self._lines[:count]))
                self._silence.broken()
            del self._lines[:count]

    # --- One datagram -----------------------------------------------------------------------------

    def _say(self, number: int, line: bytes) -> None:
        try:
            self._send(datagram_lines.packets_of(line))
        except FlcError as error:
            self._refused += 1
            complain(f"line {number}: {error}", error.hint)

    def _send(self, packets: Sequence[Packet]) -> None:
        self._silence.broken()
        self._sent += 1
        self._last = packets
        for way in self._ways:
            far = self._far_end(way)
            if far not in self._receivers:
                self._receivers[far] = b""
                if len(datagram_lines.seal_packets(packets, self._seal)) < COOKIE_BYTES:
                    self._send_over(way, [ASKS_FOR_COOKIE])  # They are too short to draw one.
            self._send_over(way, packets)

    def _send_over(self, way: asyncio.DatagramTransport, packets: Sequence[Packet]) -> None:
        far = self._far_end(way)
        receiver = self._receivers.get(far, b"")
        datagram = datagram_lines.seal_packets(packets, self._seal, receiver)
        way.sendto(datagram, self._peer)
        summary = datagram_lines.summary_of(packets)
        self._note(f"sent {len(datagram)} bytes to {far}: {summary}", datagram)

    def _far_end(self, way: asyncio.DatagramTransport) -> Address:
        return ping.address_of(self._peer or way.get_extra_info("peername"))

    def _read(self, datagram: bytes, source: SocketAddress) -> list[bytes]:
        """Give the line of a datagram. A cookie has none: it is answered."""
        read, whence = self._decoded(datagram, source)
        if cookies := [packet for packet in read.packets if isinstance(packet, Cookie)]:
            self._prove(cookies[0], whence, read.sender)
            return []
        if "error" not in read.record:
            self._answered += 1
            if self._listens:
                self._peer = source
                self._has_peer.set()
            else:
                self._settle_on(whence)
        return [json_line({"from": str(whence), **read.record}) + b"\n"]

    def _decoded(
        self, datagram: bytes, source: SocketAddress
    ) -> tuple[datagram_lines.Read, Address]:
        read = datagram_lines.read_datagram(datagram, self._seal, self._args.hex)
        word, whence = "dropped" if "error" in read.record else "received", ping.address_of(source)
        self._note(f"{word} {len(datagram)} bytes from {whence}: {read.summary}", datagram)
        return read, whence

    def _prove(self, cookie: Cookie, whence: Address, node: bytes) -> None:
        """A node asks for a proof of this session and address. Give it, and say the last again."""
        self._receivers[whence] = receiver_of(node)
        for way in self._ways:
            if self._far_end(way) == whence:
                self._send_over(way, [Hello(cookie.mac)])
                self._send_over(way, self._last)

    def _settle_on(self, source: Address) -> None:
        """Speak only with the address that has answered."""
        if len(self._ways) > 1:
            mine = [
                w for w in self._ways if ping.address_of(w.get_extra_info("peername")) == source
            ]
            for other in set(self._ways) - set(mine[:1]):
                other.close()
            self._ways = mine[:1]

    def _far(self) -> str:
        return str(self._args.target if self._peer is None else ping.address_of(self._peer))

    def _note(self, fact: str, datagram: bytes = b"") -> None:
        """With -v, tell a fact on stderr, and with -x too the bytes of its datagram."""
        if self._args.verbose:
            shown = f"\n  {datagram.hex()}" if self._args.hex and datagram else ""
            print(f"{visible(fact)}{shown}", file=sys.stderr, flush=True)
