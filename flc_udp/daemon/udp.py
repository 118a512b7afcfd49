"""The UDP socket: datagrams in and out, and each address folded to one spelling.

The sockets of a node are looked up and bound here, that of its pages over TCP too.
"""

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, cast

from flc_udp.daemon.lookup import look_up_soon
from flc_udp.daemon.socket_filter import narrow
from flc_udp.model.address import NO_HOST, Address, fold, split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.waist.flood import Door

RECEIVE_BUFFER_BYTES = 8 << 20
"""The receive buffer to ask for. The kernel grants at most rmem_max. Datagrams that arrive while
Python works wait there."""

SO_MEMINFO = 55
"""Linux has this option, but Python has no name for it: nine numbers about a socket's memory."""

MEMINFO = struct.Struct("=9I")

BIND_HINTS = {
    errno.EADDRINUSE: "another node may run there: give another port with {flag}, or 0 for any",
    errno.EADDRNOTAVAIL: "this machine does not have that address: give one of its own with {flag}",
    errno.EACCES: "ports below 1024 are the system's: give a higher one with {flag}",
}

SCOPES_MAX = 4_096
named_scopes: dict[str, int] = {}
heard_scopes: dict[str, int] = {}
"""The interface that leads to a link-local host (RFC 4007): the one that it was named by, or else
heard by last. It means nothing on other machines, so no Address has it. Anybody can send from a
made-up host, so it replaces no interface that was named. Of either SCOPES_MAX are remembered, and
the oldest goes first."""

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Why an address cannot be bound that this machine does not have."""

TCP_BACKLOG = 16
"""This many clients of the pages may wait until they are let in."""


class Bound(NamedTuple):
    """A bound socket and its address. Others can reach it, though nobody answers yet."""

    sock: socket.socket
    address: Address


class KernelBuffer(NamedTuple):
    """The kernel's buffer for datagrams that this process has not taken. None: it does not tell."""

    size: int
    used: int | None
    drops: int | None
    """Datagrams that found the buffer full, since the socket was made."""


class Datagrams(asyncio.DatagramProtocol):
    """Hands each datagram to `receive` with its folded source, and sends datagrams."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive
        self._maps_v4 = False
        """Whether the socket is IPv6, and writes an IPv4 address as one of IPv6."""
        self._transport: asyncio.DatagramTransport | None = None
        self.bound: socket.socket | None = None
        """The socket itself, of which the loop has a copy."""
        self.is_filtered = False
        """Whether the kernel drops what a door lets not pass."""
        self.errors = 0
        """Datagrams that the kernel did not send, or refused later."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._maps_v4 = transport.get_extra_info("socket").family == socket.AF_INET6

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A datagram arrived."""
        self._receive(data, _folded(addr, heard_scopes))

    def error_received(self, exc: Exception) -> None:
        """An earlier send was refused, for example by ICMP. Probes find out what that means."""
        self.errors += 1

    def send(self, datagram: bytes, to: Address) -> None:
        """Send one datagram. An address that this socket cannot reach is counted as an error."""
        if self._transport is None or self._transport.is_closing():
            return
        host = f"::ffff:{to.host}" if self._maps_v4 and ":" not in to.host else to.host
        try:
            self._transport.sendto(datagram, (host, to.port, *_scope(host)))
        except (OSError, ValueError):
            self.errors += 1

    def narrow(self, door: Door | None) -> None:
        """Let the kernel drop what does not pass a door. None: nothing."""
        if self.bound is not None:
            self.is_filtered = narrow(self.bound, door)

    def kernel_buffer(self) -> KernelBuffer | None:
        """How full the receive buffer is, and what it lost. None once the socket is closed.

        The socket itself is asked, not /proc/net/udp, which lists every socket of the machine and
        which a hardened service manager hides.
        """
        if self._transport is None or self._transport.is_closing():
            return None
        sock = self._transport.get_extra_info("socket")
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        told = b""
        if sys.platform == "linux":
            with suppress(OSError):
                told = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
        if len(told) != MEMINFO.size:
            return KernelBuffer(size, None, None)
        used, *_, drops = MEMINFO.unpack(told)
        return KernelBuffer(size, used, drops)

    def close(self) -> None:
        """Send and receive no more datagrams."""
        if self._transport is not None:
            self._transport.close()


async def resolve(text: str) -> list[Address]:
    """All addresses of `host:port`; raises FlcError if it is malformed or has no address."""
    host, port = split_host_port(text)
    try:
        found = await look_up_soon(host, port, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or NO_HOST
        raise FlcError(
            f"{text!r} has no address: {reason}", "write HOST:PORT of a host that resolves"
        ) from error
    return list(dict.fromkeys(_folded(end) for *_, end in found))


def _folded(end: tuple[Any, ...], scopes: dict[str, int] = named_scopes) -> Address:
    """The Address of a socket's; what leads to a link-local one is remembered."""
    host, port, *more = end
    host = host.partition("%")[0]
    if more and more[1]:
        scopes.pop(host, None)
        scopes[host] = more[1]
        if len(scopes) > SCOPES_MAX:
            del scopes[next(iter(scopes))]
    return fold(host, port)


def _scope(host: str) -> tuple[int, ...]:
    """What a socket's address has after the port, where an interface leads there."""
    scope = named_scopes.get(host) or heard_scopes.get(host)
    return (0, scope) if scope else ()


async def bind(text: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> Bound:
    """Bind a socket for datagrams, or one that listens for TCP connections; raises FlcError.

    Of a name, the first address is taken that this machine has.
    """
    problems: list[tuple[Address, OSError]] = []
    for address in await resolve(text):
        try:
            return _bind(address, kind)
        except OSError as error:
            problems.append((address, error))
            if error.errno not in NOT_HERE:
                break
    address, problem = problems[0]
    is_tcp = kind is socket.SOCK_STREAM
    what, flag = ("serve metrics", "--metrics") if is_tcp else ("listen", "--bind")
    hint = BIND_HINTS.get(problem.errno or 0, "give another address with {flag}")
    raise FlcError(
        f"cannot {what} on {address}: {problem.strerror}", hint.format(flag=flag)
    ) from problem


def _bind(address: Address, kind: socket.SocketKind) -> Bound:
    end = (*address, *_scope(address.host))
    is_v6 = ":" in address.host
    with ExitStack() as on_failure:
        sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind)
        on_failure.enter_context(sock)
        sock.setblocking(False)
        if is_v6:
            # A socket that is bound to every address serves both families.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_wildcard)
        if kind is socket.SOCK_STREAM:
            # So a restart need not wait until the old connections are forgotten by the system.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(end)
            # Listen at once: the system refuses a second node here, and not when it binds.
            sock.listen(TCP_BACKLOG)
        else:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.bind(end)
        on_failure.pop_all()
    return Bound(sock, _folded(sock.getsockname()))
