"""Clients that ask for much and read nothing."""

import json
import socket

import pytest

from tests.daemon.cluster import Cluster

BODY = "\x01" * 65_000
"""It is six times as long as JSON."""

GROWTH_BYTES_MAX = 48 << 20
"""Of the process (RSS); what was asked for here would be 700 MB."""

UNREAD_BYTES_MAX = 8 << 20
"""A connection buffers 1 MiB. The page that fills it has 1 MiB of bodies, before they are JSON."""


@pytest.mark.parametrize(
    "asked",
    [
        b'{"op":"log","n":20}\n' * 100,
        b'{"op":"log","n":1}\n' * 2_000,
        b'{"op":"follow","from":0}\n' * 100,
    ],
)
async def test_what_is_not_read_is_not_rendered(cluster: Cluster, asked: bytes) -> None:
    """However many lists and follows of large messages one client begins, others are served."""
    (ann,) = await cluster.start(1)
    client = await ann.client()
    for _ in range(30):
        await client.say("ops", BODY)
    before = ann.resident_bytes()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(ann.data / "control.sock"))
        deaf.setblocking(False)
        deaf.send(asked)
        for _ in range(20):
            clients = (await client.status())["clients"]
            assert clients["unread_bytes"] <= UNREAD_BYTES_MAX, json.dumps(clients)
        assert clients["blocked"] == 1
        assert ann.resident_bytes() - before < GROWTH_BYTES_MAX
