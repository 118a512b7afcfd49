"""The pages' server: what it answers, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import NamedTuple

import pytest

from flc_udp.daemon.failures import Failures
from flc_udp.daemon.udp import bind
from flc_udp.daemon.watch import web
from flc_udp.daemon.watch.web import Page, Web
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError
from tests.daemon.process import until

LARGE = "x" * (32 << 20)
"""More than any two socket buffers hold."""


class Answer(NamedTuple):
    """What came back: the status line's number, the header's lines and the body."""

    status: int
    headers: list[str]
    body: bytes


async def asked(address: Address, request: bytes, *, ends: bool = False) -> Answer:
    """Send these bytes; read until the server ends it."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    if ends:
        writer.write_eof()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *headers = head.decode().split("\r\n")
    return Answer(int(first.split()[1]), headers, body)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes before the end, which may be an abrupt one."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.fixture
async def served() -> AsyncIterator[tuple[Web, Address]]:
    """A server of a small page and a large one."""
    door = await bind("127.0.0.1:0", socket.SOCK_STREAM)
    server = Web(Failures())
    server.pages = {
        "/small": lambda: Page(HTTPStatus.OK, "small\n"),
        "/odd": lambda: Page(HTTPStatus.OK, "caf\udce9\n"),
        "/large": lambda: Page(HTTPStatus.OK, LARGE),
    }
    await server.serve(door.sock)
    yield server, door.address
    server.close()


async def test_a_page_is_answered_and_the_connection_ends(served: tuple[Web, Address]) -> None:
    """With its length and its type; a query is nobody's business."""
    answer = await asked(served[1], b"GET /small?a=b HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (answer.status, answer.body) == (200, b"small\n")
    assert "Content-Length: 6" in answer.headers
    assert "Content-Type: text/plain; charset=utf-8" in answer.headers
    assert "Connection: close" in answer.headers


async def test_head_is_the_same_without_the_body(served: tuple[Web, Address]) -> None:
    """The length it would have is told."""
    answer = await asked(served[1], b"HEAD /small HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (answer.status, answer.body) == (200, b"")
    assert "Content-Length: 6" in answer.headers


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /none HTTP/1.0\r\n\r\n", 404),
        (b"GET //small HTTP/1.0\r\n\r\n", 404),
        (b"POST /small HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", 405),
        (b"DELETE /none HTTP/1.0\r\n\r\n", 405),
        (b"GET small HTTP/1.0\r\n\r\n", 404),
        (b"GET /small\r\n\r\n", 400),
        (b"GET /small HTTP/2.0\r\n\r\n", 505),
        (b"GET /sm all HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\n\r\n", 400),
        (b"GET /small HTTP/1.1\r\nX: " + b"y" * 9_000, 431),
        (b"GET /small HTTP/1.0\r\nX: " + b"y" * 9_000 + b"\r\n\r\n", 431),
        (b"z" * 9_000, 431),
    ],
)
async def test_what_is_no_request_for_a_page_is_told_why(
    served: tuple[Web, Address], request_bytes: bytes, status: int
) -> None:
    """In plain text."""
    answer = await asked(served[1], request_bytes)

    assert answer.status == status
    assert answer.body.endswith(b"\n")
    assert ("Allow: GET, HEAD" in answer.headers) == (status == 405)


async def test_what_is_no_unicode_is_shown_as_it_can_be(served: tuple[Web, Address]) -> None:
    """A seed that was typed in another encoding is named in a reason."""
    assert (await asked(served[1], b"GET /odd HTTP/1.0\r\n\r\n")).body == b"caf\\udce9\n"


async def test_half_a_request_is_none(served: tuple[Web, Address]) -> None:
    """Whoever ends before the empty line is told so."""
    answer = await asked(served[1], b"GET /small HTTP/1.1\r\n", ends=True)

    assert answer.status == 400


async def test_a_request_may_come_byte_by_byte(served: tuple[Web, Address]) -> None:
    """And end its lines as netcat does."""
    reader, writer = await asyncio.open_connection(*served[1])
    for at in range(len(request := b"GET /small HTTP/1.0\n\n")):
        writer.write(request[at : at + 1])
        await writer.drain()

    assert (await reader.read()).endswith(b"small\n")
    writer.close()


async def test_who_says_nothing_is_sent_away(
    served: tuple[Web, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the deadline, without an answer."""
    monkeypatch.setattr(web, "DEADLINE_S", 0.01)
    reader, writer = await asyncio.open_connection(*served[1])

    assert await rest_of(reader) == b""
    writer.close()


async def test_who_does_not_read_holds_nobody_up(
    served: tuple[Web, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered meanwhile, and what was kept for it goes with the deadline."""
    server, address = served
    with socket.create_connection(address) as dawdler:
        dawdler.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        await until("the dawdler is here", lambda: _counts(server, 1))
        answer = await asked(address, b"GET /small HTTP/1.0\r\n\r\n")

        assert answer.status == 200
        assert server.connections >= 1

    monkeypatch.setattr(web, "DEADLINE_S", 0.01)
    with socket.create_connection(address) as dawdler:
        dawdler.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        await until("only those that read are here", lambda: _counts(server, 0))


async def test_of_too_many_the_oldest_gives_way(served: tuple[Web, Address]) -> None:
    """However many dawdle, who asks promptly is answered."""
    server, address = served
    dawdlers = [await asyncio.open_connection(*address) for _ in range(web.CONNECTIONS_MAX)]
    await until("they are here", lambda: _counts(server, web.CONNECTIONS_MAX))

    answer = await asked(address, b"GET /small HTTP/1.0\r\n\r\n")

    assert answer.status == 200
    assert await rest_of(dawdlers[0][0]) == b""
    assert server.connections < web.CONNECTIONS_MAX
    for _, writer in dawdlers:
        writer.close()


async def test_an_address_in_use_is_refused() -> None:
    """With a hint that names the flag."""
    door = await bind("127.0.0.1:0", socket.SOCK_STREAM)

    with pytest.raises(FlcError, match=f"cannot serve metrics on {door.address}") as refused:
        await bind(str(door.address), socket.SOCK_STREAM)
    assert "--metrics" in refused.value.hint
    door.sock.close()


async def _counts(server: Web, count: int) -> bool:
    return server.connections == count
