"""A name with several addresses, of which only one answers, whichever stands first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

from flc_udp.cli.main import main
from flc_udp.config import HASH_BYTES
from flc_udp.wire import codec
from flc_udp.wire.dissect import payload_of
from flc_udp.wire.packets import Ack, Ping
from flc_udp.wire.seal import Seal, keyring

NODE = b"the node"
ROOT = bytes(HASH_BYTES)

DEAD = [("::1", 7), ("192.0.2.1", 7), ("127.0.0.1", 9)]
"""Nobody listens there; to some of them there may not even be a way."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of somebody on 127.0.0.1 who answers pings."""
    seal = Seal(keyring((), "flc"), b"a session, 16 by")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            with suppress(OSError):
                while True:
                    datagram, source = sock.recvfrom(2_000)
                    if not datagram:
                        return
                    _, packets, _ = codec.read(seal.open(datagram).payload)
                    pings = [packet for packet in packets if isinstance(packet, Ping)]
                    acks = [Ack(p.nonce, ROOT, ROOT, catching_up=False, held=0) for p in pings]
                    sock.sendto(seal.close(payload_of(NODE, acks)), source)

        thread = Thread(target=answer)
        thread.start()
        yield sock.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", sock.getsockname())
        thread.join()


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("command", ["ping -c 2 -i 0.1", "udp -z -v", "doctor"])
def test_all_addresses_of_a_name_are_tried(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    port: int,
    place: int,
    command: str,
) -> None:
    """As `localhost` on a machine that names ::1 first, and whose node has 127.0.0.1."""
    ends = [*DEAD[:place], ("127.0.0.1", port), *DEAD[place:]]

    def resolver(host: str, *_: object, **_named: object) -> list[tuple[object, ...]]:
        assert host == "node.example"
        families = (socket.AF_INET6 if ":" in end[0] else socket.AF_INET for end in ends)
        kind = (socket.SOCK_DGRAM, 17, "")
        return [(family, *kind, end) for family, end in zip(families, ends, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    code = main([*command.split(), f"node.example:{port}"])
    shown = capsys.readouterr()
    if command == "doctor":
        assert f"{NODE.hex()} at 127.0.0.1:{port} answers" in shown.out
    else:
        assert code == 0
        assert f"127.0.0.1:{port}" in shown.out + shown.err
