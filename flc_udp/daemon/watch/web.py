"""A few pages over HTTP/1.1, for those who look after a node: GET and HEAD, one request each.

Served by the node's own loop and not by a thread, so that an answer proves that the loop turns.

Rules. A connection ends after one answer, or after DEADLINE_S without one, whatever either end does
meanwhile: it is aborted, and nobody waits for it. Requests, answers and connections are bounded; of
too many connections the oldest gives way, so that who asks promptly is answered however many
dawdle. Nothing of what is asked is logged or kept.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

from flc_udp.daemon.udp import BIND_HINTS, resolve
from flc_udp.model.address import Address, fold
from flc_udp.model.errors import FlcError

DEADLINE_S = 5.0
"""From connecting to the last byte of the answer; who scrapes needs a hundredth of it."""

REQUEST_BYTES_MAX = 8_192
"""Of a request line and headers, which are read and not looked at."""

CONNECTIONS_MAX = 16
"""At a time: more than any number of scrapers and probes needs."""

PLAIN = "text/plain; charset=utf-8"

HEAD_END = re.compile(rb"\r?\n\r?\n")
REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")


class Page(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    text: str
    content_type: str = PLAIN


Pages = Mapping[str, Callable[[], Page]]


class Listening(NamedTuple):
    """A socket that is connected to already, though nobody answers yet."""

    sock: socket.socket
    address: Address


class _Exchange(asyncio.Protocol):
    """One connection: a request, an answer, the end."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._request = b""
        self._has_answered = False
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody came."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(DEADLINE_S, self._transport.abort)
        self._web.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """They went, or were sent away."""
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._web.dismiss(self)

    def data_received(self, data: bytes) -> None:
        """A part of the request; what follows it is passed over."""
        if self._has_answered:
            return
        self._request += data
        head = HEAD_END.search(self._request, 0, REQUEST_BYTES_MAX)
        if head is not None:
            self._answer_request(self._request[: head.start()])
        elif len(self._request) >= REQUEST_BYTES_MAX:
            self._answer(_refusal(f"a request of more than {REQUEST_BYTES_MAX} bytes"))

    def eof_received(self) -> bool:
        """The request is over, whole or not. True: the answer may still be on its way."""
        if not self._has_answered:
            self._answer(_refusal("half a request"))
        return True

    def abort(self) -> None:
        """End it as it is."""
        if self._transport is not None:
            self._transport.abort()

    def _answer_request(self, head: bytes) -> None:
        line = REQUEST_LINE.fullmatch(head.splitlines()[0]) if head else None
        if line is None:
            self._answer(_refusal("a request is one line: GET /livez HTTP/1.1"))
            return
        method, target = line[1].decode(), line[2].decode()
        if method not in ("GET", "HEAD"):
            self._answer(Page(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n"))
            return
        page = self._web.page(target.partition("?")[0])
        self._answer(page, with_body=method == "GET")

    def _answer(self, page: Page, *, with_body: bool = True) -> None:
        assert self._transport is not None
        self._has_answered, self._request = True, b""
        self._transport.write(_encoded(page, with_body=with_body))
        self._transport.close()  # Once it is written; the deadline stands.


class Web:
    """The server: its pages by path, and who is connected."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._exchanges: dict[_Exchange, None] = {}
        self.pushed_out = 0
        """Connections that gave way to newer ones."""
        self._server: asyncio.Server | None = None

    async def serve(self, sock: socket.socket) -> None:
        """Answer on a socket that `listening` gave."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Exchange(self), sock=sock, backlog=CONNECTIONS_MAX
        )

    def close(self) -> None:
        """No more answers."""
        if self._server is not None:
            self._server.close()
        for exchange in list(self._exchanges):
            exchange.abort()

    def page(self, path: str) -> Page:
        """The page of that path, or that there is none."""
        make = self._pages.get(path)
        if make is None:
            known = ", ".join(self._pages)
            return Page(HTTPStatus.NOT_FOUND, f"no such page; there are {known}\n")
        return make()

    def admit(self, exchange: _Exchange) -> None:
        """One more connection; where there are too many, the oldest gives way."""
        if len(self._exchanges) >= CONNECTIONS_MAX:
            self.pushed_out += 1
            oldest = next(iter(self._exchanges))
            self.dismiss(oldest)
            oldest.abort()
        self._exchanges[exchange] = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._exchanges)

    def dismiss(self, exchange: _Exchange) -> None:
        """A connection ended."""
        self._exchanges.pop(exchange, None)


async def listening(text: str) -> Listening:
    """Listen on `host:port`, over TCP; raises FlcError."""
    address = (await resolve(text))[0]
    is_v6 = ":" in address.host
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
    try:
        if is_v6:
            # As the node's own socket: one for both families where it is bound to every address.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.is_wildcard)
        # A restart does not wait for connections that the last run closed.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        # At once, since a second node is refused by listening and not by binding.
        sock.listen(CONNECTIONS_MAX)
    except OSError as error:
        sock.close()
        hint = BIND_HINTS.get(error.errno or 0, "").replace("--bind", "--metrics")
        raise FlcError(
            f"cannot serve metrics on {address}: {error.strerror}",
            hint or "give another address with --metrics",
        ) from error
    host, port = sock.getsockname()[:2]
    return Listening(sock, fold(host, port))


def _refusal(why: str) -> Page:
    return Page(HTTPStatus.BAD_REQUEST, f"{why}\n")


def _encoded(page: Page, *, with_body: bool) -> bytes:
    body = page.text.encode(errors="backslashreplace")
    lines = [
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join((*lines, "", "")).encode()
    return head + body if with_body else head
