"""A few pages over HTTP/1.1 for monitors: each connection asks for one page with GET or HEAD.

The node's own event loop serves them, not a thread. So an answer proves that the loop turns.

Rules. A connection ends after one answer. Whatever either end does, it is aborted after DEADLINE_S,
and nobody waits for it. Requests, answers and the number of connections are bounded. When there are
too many connections, the oldest is ended, so that slow clients cannot keep out prompt ones. Nothing
of a request is logged or kept.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

from flc_udp.daemon.failures import Failures
from flc_udp.daemon.udp import TCP_BACKLOG

DEADLINE_S = 5.0
"""The time from connecting to the last byte of the answer. A scrape needs a hundredth of it."""

REQUEST_BYTES_MAX = 8_192
"""The largest request line and headers together."""

CONNECTIONS_MAX = 16
"""The most connections at a time: more than scrapers and probes need."""

NO_REQUEST = "this is no HTTP request, or one of HTTP/1.1 without a Host line: try curl\n"
TOO_LARGE = f"a request of more than {REQUEST_BYTES_MAX} bytes\n"

PLAIN = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """One answer."""

    status: HTTPStatus
    text: str
    content_type: str = PLAIN


Pages = Mapping[str, Callable[[], Page]]


class _Exchange(asyncio.Protocol):
    """One connection: one request, one answer, the end."""

    def __init__(self, web: "Web") -> None:
        self._web = web
        self._http = h11.Connection(h11.SERVER)
        self._received_bytes = 0
        self._wants_body = True
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(DEADLINE_S, self._transport.abort)
        self._web.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        self._deadline.cancel()
        self._web.dismiss(self)

    def data_received(self, data: bytes) -> None:
        """A part of the request arrived. Whatever follows the request is ignored."""
        self._received_bytes += len(data)
        if self._received_bytes > REQUEST_BYTES_MAX:
            self._answer(Page(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE))
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            self._answer(Page(HTTPStatus.BAD_REQUEST, NO_REQUEST))
        else:
            if isinstance(event, h11.Request):
                self._wants_body = event.method != b"HEAD"
                self._answer(self._page(event))
            elif isinstance(event, h11.ConnectionClosed):
                self.abort()

    def eof_received(self) -> bool:
        """The request is over. True keeps the connection, for an answer that is on its way."""
        self.data_received(b"")
        return True

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _page(self, request: h11.Request) -> Page:
        if not request.http_version.startswith(b"1."):
            return Page(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 and HTTP/1.0 are spoken\n")
        if request.method not in (b"GET", b"HEAD"):
            return Page(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n")
        return self._web.page(request.target.decode().partition("?")[0])

    def _answer(self, page: Page) -> None:
        body = page.text.encode(errors="backslashreplace")
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        phrase = page.status.phrase
        response = h11.Response(status_code=page.status, reason=phrase, headers=headers)
        self._transport.write(self._http.send(response) or b"")
        if self._wants_body:
            self._transport.write(self._http.send(h11.Data(body)) or b"")
        # It reads no more, and closes when all is written. The deadline stays.
        self._transport.close()


class Web:
    """The server: its pages by path, and its connections."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self.pages: Pages = {}
        """How each page is made, by its path."""
        self._exchanges: dict[_Exchange, None] = {}
        self.pushed_out = 0
        """Connections that were ended to make room for newer ones."""
        self._server: asyncio.Server | None = None

    async def serve(self, sock: socket.socket) -> None:
        """Answer on a socket that listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Exchange(self), sock=sock, backlog=TCP_BACKLOG
        )

    def close(self) -> None:
        """Stop answering, and end every connection."""
        if self._server is not None:
            self._server.close()
        for exchange in list(self._exchanges):
            exchange.abort()

    def page(self, path: str) -> Page:
        """The page of this path, or one that says which paths there are."""
        make = self.pages.get(path)
        if make is None:
            known = ", ".join(self.pages)
            return Page(HTTPStatus.NOT_FOUND, f"no such page; there are {known}\n")
        try:
            return make()
        except Exception as error:  # noqa: BLE001  # a page fails alone
            self._failures.of_part("a page", error)
            return Page(HTTPStatus.INTERNAL_SERVER_ERROR, f"{path} failed; see the node's log\n")

    def admit(self, exchange: _Exchange) -> None:
        """Count a new connection. If there are too many, end the oldest."""
        if len(self._exchanges) >= CONNECTIONS_MAX:
            self.pushed_out += 1
            oldest = next(iter(self._exchanges))
            self.dismiss(oldest)
            oldest.abort()
        self._exchanges[exchange] = None

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._exchanges)

    def dismiss(self, exchange: _Exchange) -> None:
        """Forget a connection that ended."""
        self._exchanges.pop(exchange, None)
