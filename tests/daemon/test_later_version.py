"""A daemon of today and what a later version sends it, or left on its disk."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing

import msgpack

from flc_udp.config import WIRE_VERSION
from flc_udp.model.address import parse_numeric
from flc_udp.wire.seal import SESSION_BYTES, Seal, keyring
from tests.daemon.cluster import Cluster
from tests.daemon.process import assert_refused, run_flc
from tests.daemon.proof import prove


async def test_a_later_schema_is_refused(cluster: Cluster) -> None:
    """The refusal has two lines, and not a byte of the database is changed."""
    ann = cluster.node()
    await ann.start()
    await ann.flc("leave")
    await ann.ended()
    database = ann.data / "flc.db"
    with closing(sqlite3.connect(database)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {schema + 1}")
    before = database.read_bytes()

    refused = await run_flc("run", "--data", str(ann.data), "--bind", "127.0.0.1:0")
    assert_refused(refused, "newer", str(schema + 1))
    assert database.read_bytes() == before


async def test_what_a_later_version_sends_is_a_counted_drop(cluster: Cluster) -> None:
    """It is counted by its reason; unknown packets and unknown fields harm no neighbour."""
    ann = cluster.node()
    await ann.start()
    address = parse_numeric(ann.address)
    assert address is not None
    seal = Seal(keyring((), "flc"), bytes(SESSION_BYTES - 1) + b"\x01")
    ping = [3, 7, bytes(8), bytes(8), False, bytes(8), 0, "later", {"x": 1}]
    payload = msgpack.packb([bytes(8), [99, "later"], ping, [100]])
    datagram = seal.close(payload)
    later = bytes((WIRE_VERSION + 1,)) + datagram[1:]
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10)
        sock.sendto(later, (address.host, address.port))
        receiver = prove(sock, seal, (address.host, address.port))
        sock.sendto(seal.close(payload, receiver), (address.host, address.port))
        answer = seal.open(sock.recv(2_048)).payload

    assert msgpack.unpackb(answer)[1][:2] == [4, 7]
    drops = (await ann.ask("status"))["drops"]
    assert drops == {
        "packet kind unknown": 2,
        "session or address not proved": 1,
        "wire version unknown": 1,
    }
