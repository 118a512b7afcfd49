"""What may wait in a daemon: each has a bound and a counter, and here somebody drives against it.

| what | its bound | counted by (flc_…) | driven against by |
|---|---|---|---|
| clients | CONNECTIONS_MAX | control_connections, …_turned_away | control/test_control |
| parts of lines, says | HELD_BYTES_MAX | control_held_bytes, …_requests_refused | here |
| what a client said itself | OWN_RANGES_MAX | | here |
| says that wait for others | their clients | queue_length{waiting_for_others} | here |
| answers not read | UNREAD_BYTES_MAX | control_unread_bytes, …_blocked | here, test_unread |
| lists | LISTS_MAX a client, one reads at a time | control_lists, …_reads_waiting | here |
| hooks' output | OUTPUT_BYTES | hook_output_dropped_bytes | hooks/test_shell |
| log lines | LINES_MAX | log_lines_left_out | here, test_stderr |
| WAL | a reason above WAL_BYTES_MOST | database_bytes{wal} | test_unreadable |
| datagrams | INBOX_MAX, INBOX_BYTES_MAX | queue_length{inbox}, drops | waist/test_inbox |
| hold-back | holdback_bytes_max, _blocks_max | holdback_bytes, drops | here, core/test_facts |
| pieces | PARTIAL_BYTES_MAX, PARTIALS_MAX | pieces_bytes, drops | core/repair/test_pieces |
| members | members_max | members | here, core/test_hostile_members |
| sessions | PROVED_MAX | sessions | waist/test_sessions |

Memory is what the process has (RSS). The bounds are generous, and without them each play here takes
several times as much.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flc_udp.core.liveness.members import alive_row
from flc_udp.daemon.control.connection import OWN_RANGES_MAX, ControlConnection
from flc_udp.daemon.control.held import Held
from flc_udp.daemon.control.lists import LISTS_MAX
from flc_udp.daemon.control.output import OUTPUT_BYTES, UNREAD_BYTES_MAX
from flc_udp.daemon.control.reads import ReadTurns
from flc_udp.daemon.stderr import LINES_MAX
from flc_udp.model.address import Address, split_host_port
from flc_udp.model.block import NO_PARENT, Block, Origin, pack_body, write
from flc_udp.model.dots import Dot, LogId, NodeId
from flc_udp.wire.packets import Packet, Rumor, Update
from flc_udp.wire.packing import pack
from flc_udp.wire.seal import Seal, keyring, make_key, read_key
from tests.daemon.cluster import Cluster, Node
from tests.daemon.disks import StandingDisk
from tests.daemon.process import until
from tests.daemon.proof import SENT, prove
from tests.daemon.test_full_disk import fill_disk
from tests.daemon.wire import Wire

OUTPUT_BYTES_LAST = 2 * OUTPUT_BYTES

GROWTH_BYTES_MAX = 160 << 20

FEW_BYTES_MAX = 24 << 20
"""For what is small, or has a small limit here."""

UNREAD_BYTES_MOST = UNREAD_BYTES_MAX + 200 * OUTPUT_BYTES_LAST
"""Each of 200 clients may go beyond its share by what it is sent at once."""

HOLDBACK_BYTES_MAX = 4 << 20

DATAGRAM_BYTES = 8_000


async def grown_bytes(node: Node, before: int) -> int:
    """By how much the memory of a node that still works has grown."""
    await (await node.client()).say("dev", "still here")
    return node.resident_bytes() - before


async def test_lines_without_an_end_are_bounded(ann: Node, wires: list[Wire]) -> None:
    """Of a hundred clients that each send 7 MiB of a line, and nothing more."""
    before = ann.resident_bytes()
    part = b'{"op":"say","room":"ops","body":"' + b"x" * (7 << 20)
    for _ in range(100):
        await (await Wire.to(ann, wires)).send(part)
    assert await grown_bytes(ann, before) < GROWTH_BYTES_MAX
    clients = (await ann.ask("status"))["clients"]
    assert 0 < clients["held_bytes"] < GROWTH_BYTES_MAX
    assert clients["held_refused"] > 0
    last = wires[-1]
    refused = await last.ask(b'"}\n')
    assert "clients have sent" in refused["error"]
    assert (await last.ask({"op": "say", "room": "ops", "body": "short"}))["ok"]
    for wire in wires:
        await wire.close()


async def test_says_that_wait_for_the_disk_are_bounded(
    cluster: Cluster, wires: list[Wire], tmp_path: Path
) -> None:
    """Of 20 clients that say 12 MB each, while the disk stands still; then all go on."""
    disk = StandingDisk(tmp_path)
    ann = cluster.node(environ=disk.environ)
    await ann.start()
    before = ann.resident_bytes()
    disk.stop()
    say = b'{"op":"say","room":"ops","body":"%b"}\n' % (b"x" * 60_000)
    says = []
    for _ in range(20):
        wire = await Wire.to(ann, wires)
        says.append(asyncio.create_task(wire.send(say * 200)))

    async def are_paused() -> bool:
        return (await ann.ask("status"))["clients"]["paused"] == len(says)

    await until("no client is read any more", are_paused)
    assert ann.resident_bytes() - before < GROWTH_BYTES_MAX
    assert (await ann.ask("status"))["clients"]["held_bytes"] < GROWTH_BYTES_MAX
    disk.go_on()
    for wire in wires:
        assert (await wire.read())["ok"]
    for sending in says:
        sending.cancel()
    await asyncio.gather(*says, return_exceptions=True)


@pytest.mark.parametrize(
    "asked",
    [
        b'{"op":"log","n":0}\n' * LISTS_MAX,
        b'{"op":"follow","from":0}\n' * 20,
        b'{"op":"rooms"}\n{"op":"members"}\n' * LISTS_MAX,
    ],
    ids=["log", "follow", "rooms"],
)
async def test_lists_that_nobody_reads_are_bounded(
    ann: Node, wires: list[Wire], asked: bytes
) -> None:
    """Of 200 clients that ask for 40 MB each, and read nothing; others are served."""
    client = await ann.client()
    for room in range(5):
        for _ in range(16):
            await client.say_many(f"room {room}", ["x" * 1_000] * 500)
    before = ann.resident_bytes()
    for _ in range(200):
        await (await Wire.to(ann, wires)).send(asked)
        wires[-1].pause()

    async def are_served() -> bool:
        clients = (await ann.ask("status"))["clients"]
        return bool(clients["lists"] or clients["blocked"] or clients["reads_waiting"])

    await until("their lists are under way", are_served)
    for _ in range(20):
        assert await grown_bytes(ann, before) < GROWTH_BYTES_MAX
        assert (await ann.ask("status"))["clients"]["unread_bytes"] < UNREAD_BYTES_MOST
    for wire in wires:
        await wire.close()

    async def are_forgotten() -> bool:
        clients = (await ann.ask("status"))["clients"]
        return not (clients["lists"] or clients["reads_waiting"] or clients["unread_bytes"])

    await until("nothing is left of them", are_forgotten)


async def test_who_waits_for_others_and_goes_leaves_nothing(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """A wait may last a day, but not longer than whoever wants to know its end."""
    ann, ben = await cluster.start(2)
    fill_disk(ben, wholly=True)
    say = {"op": "say", "room": "ops", "body": "hi", "wait": 1, "timeout": 86_400}

    async def wait_together(count: int) -> bool:
        return (await ann.ask("status"))["clients"]["waiting_for_others"] == count

    for _ in range(2):
        wire = await Wire.to(ann, wires)
        await wire.send(*[say] * 1_000)
        await until("they wait", partial(wait_together, 1_000))
        await wire.close()
        await until("nobody waits", partial(wait_together, 0))
    assert (await ann.ask("status"))["clients"]["held_bytes"] == 0


def test_what_a_client_said_itself_is_bounded() -> None:
    """Of two clients that speak in turn, each message of each is a stretch of its own."""
    host: Any = SimpleNamespace(says=SimpleNamespace(held=Held()), reads=ReadTurns())
    connection = ControlConnection(host)
    for number in range(3 * OWN_RANGES_MAX):
        connection.remember(LogId(b"said own"), 2 * number, 2 * number)
    (spans,) = connection.own.values()
    assert len(list(spans)) == OWN_RANGES_MAX
    assert 6 * OWN_RANGES_MAX - 2 in spans


class Insider:
    """Somebody who holds the key of a node, and sends it what it likes."""

    def __init__(self, node: Node, key: bytes) -> None:
        self._to = split_host_port(node.address)
        self._seal, self._node = Seal(keyring((key,), "flc"), b"an insider's own"), node
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver = prove(self._socket, self._seal, self._to, NodeId(b"insider!"))
        self._sent = SENT

    async def send(self, packets: Iterable[Packet]) -> None:
        """Each in a datagram of its own, and as fast as the node reads them."""
        for number, packet in enumerate(packets):
            for payload in pack(b"insider!", [packet], DATAGRAM_BYTES):
                self._socket.sendto(self._seal.close(payload, self._receiver), self._to)
                self._sent += 1
            if number % 64 == 0:
                await self.are_read()
        await self.are_read()

    def close(self) -> None:
        """It has gone."""
        self._socket.close()

    async def are_read(self) -> None:
        """Wait until all that was sent was looked at."""

        async def look() -> bool:
            status = await self._node.ask("status")
            lost = status["drops"].get("inbox full", 0)
            return status["counts"].get("datagrams received", 0) + lost >= self._sent

        await until("all datagrams are read", look)


@pytest.fixture
async def attacked(cluster: Cluster) -> AsyncIterator[tuple[Node, Insider]]:
    """A node with small limits, and somebody with its key."""
    key = make_key()
    (cluster.home / "key").write_text(key)
    limits = {"FLC_MEMBERS_MAX": "500", "FLC_HOLDBACK_BYTES_MAX": str(HOLDBACK_BYTES_MAX)}
    ann = cluster.node("--key-file", str(cluster.home / "key"), environ=limits)
    await ann.start()
    insider = Insider(ann, read_key(key, "the key"))
    yield ann, insider
    insider.close()


async def test_members_and_lines_are_bounded(attacked: tuple[Node, Insider]) -> None:
    """Of 5,000 made-up members none is believed, and the table and the log stay small."""
    ann, insider = attacked
    before = ann.resident_bytes()
    rows = [
        alive_row(NodeId(number.to_bytes(8, "big")), 1, Address("127.0.0.1", 9), "mallory", 1)
        for number in range(1, 5_001)
    ]
    await insider.send(Update((row,)) for row in rows)
    status = await ann.ask("status")
    assert sum(status["members"].values()) <= 500
    assert status["members"]["alive"] <= 1
    events = Counter(record["event"] for record in ann.logged("member_alive", "member_suspected"))
    assert max(events.values(), default=0) <= LINES_MAX
    assert await grown_bytes(ann, before) < FEW_BYTES_MAX


async def test_hold_back_is_bounded(attacked: tuple[Node, Insider]) -> None:
    """40 MB of messages whose causes nobody has, from somebody who was never heard: none waits."""
    ann, insider = attacked
    before = ann.resident_bytes()
    body = pack_body("x" * 4_000)
    await insider.send(
        Rumor(False, 0, (block_without_cause(number, body).encoded,)) for number in range(10_000)
    )
    holdback = (await ann.ask("status"))["holdback"]
    assert holdback["bytes"] == 0
    assert holdback["dropped"] > 0
    assert await grown_bytes(ann, before) < FEW_BYTES_MAX


def block_without_cause(number: int, body: bytes) -> Block:
    """The first block of a log, after a message that there is not."""
    log = LogId(number.to_bytes(8, "big"))
    stamp = int(time.time() * 1_000) << 16
    return write(
        log=log, first=1, room="ops", author="mallory", wall=stamp >> 16, stamp=stamp,
        causes=(Dot(LogId(b"nowhere!"), 1),), parent=NO_PARENT, bodies=[body],
        origin=Origin(NodeId(b"insider!"), "mallory"),
    )  # fmt: skip
