"""`flc udp` as a process, against sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import msgpack
import pytest

from flc_udp.cli.main import main
from flc_udp.model.dots import VISITOR
from flc_udp.wire import codec
from flc_udp.wire.dissect import payload_of
from flc_udp.wire.message_json import body_record
from flc_udp.wire.packets import Hello, Nack, Packet, Ping, Relayed, Rumor
from flc_udp.wire.seal import Seal, keyring, make_key, read_keys
from tests.cli.fake import DEADLINE_S, Ended, Flc, Spawn
from tests.cli.wire.test_hexdump import ANN, BEN, dump, in_v4
from tests.model.stories import Story

NODE = b"node----"
NACK = '{"kind":"nack","nonce":1}'
HASTE = ("-w", "0.2")
"""Options for runs in which nothing will come."""

TIME = ("-w", "1.5")
"""Options for runs with an answer, which takes a thousandth of this time."""


def sealer(cluster: str = "flc", *keys: bytes) -> Seal:
    """Make the envelope of a process."""
    return Seal(keyring(keys, cluster), b"a session, 16 by")


class Peer(asyncio.DatagramProtocol):
    """A socket on loopback that keeps what it is sent, and gives one answer to all of it."""

    def __init__(self, seal: Seal, answer: bytes | None) -> None:
        self._seal, self._answer = seal, answer
        self.received: asyncio.Queue[tuple[bytes, list[Packet]]] = asyncio.Queue()

    @classmethod
    async def bound(cls, seal: Seal, answer: bytes | None, to: str | None = None) -> Self:
        """Bind to any free port; with `to`, speak only to that address."""
        peer = cls(seal, answer)
        loop = asyncio.get_running_loop()
        host, _, port = (to or "").rpartition(":")
        ends: Any = {"remote_addr": (host, port)} if to else {"local_addr": ("127.0.0.1", 0)}
        await loop.create_datagram_endpoint(lambda: peer, **ends)
        return peer

    @property
    def port(self) -> str:
        """The port that it is bound to."""
        return str(self.transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # asyncio's, or uvloop's
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep what came, and answer it."""
        sender, packets, _ = codec.read(self._seal.open(data).payload)
        if any(isinstance(packet, Hello) for packet in packets):
            return  # It asks for a cookie, and this peer believes all.
        self.received.put_nowait((sender, packets))
        if self._answer is not None:
            self.transport.sendto(self._answer, addr)

    async def next(self) -> list[Packet]:
        """Wait for the next datagram, which must be a visitor's, and give its packets."""
        sender, packets = await asyncio.wait_for(self.received.get(), DEADLINE_S)
        assert sender == VISITOR
        return packets


PeerMaker = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def peer() -> AsyncIterator[PeerMaker]:
    """Make peers that are closed with the test."""
    made: list[Peer] = []

    async def bound(
        *answers: Packet, seal: Seal | None = None, raw: bytes | None = None, to: str | None = None
    ) -> Peer:
        seal = seal or sealer()
        answer = seal.close(payload_of(NODE, answers)) if answers else raw
        made.append(await Peer.bound(seal, answer, to))
        return made[-1]

    yield bound
    for each in made:
        each.transport.close()


@pytest.fixture
def udp(spawn: Spawn) -> Flc:
    """Run `flc udp` to its end, with stdin in a pipe."""

    async def run(*words: str, stdin: str = "") -> Ended:
        process = await spawn("udp", *words)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), DEADLINE_S)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


def records(ended: Ended) -> list[dict[str, Any]]:
    """Parse its output."""
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_a_line_is_a_datagram_and_an_answer_is_a_line(udp: Flc, peer: PeerMaker) -> None:
    """What is typed arrives as it was typed; what comes is printed with its source."""
    ann = await peer(Nack(7), Relayed(8, NODE))
    lines = f'{NACK}\n[{NACK},{{"kind":"nack","nonce":2}}]\n\n[]'
    ended = await udp("127.0.0.1", ann.port, *TIME, stdin=lines)

    assert [await ann.next() for _ in range(3)] == [[Nack(1)], [Nack(1), Nack(2)], []]
    assert ended.code == 0
    assert records(ended)[0] == {
        "from": f"127.0.0.1:{ann.port}",
        "sender": NODE.hex(),
        "packets": [
            {"kind": "nack", "nonce": 7},
            {"kind": "relayed", "nonce": 8, "node": NODE.hex()},
        ],
    }
    assert ended.err == ""


async def test_host_and_port_may_be_one_word(udp: Flc, peer: PeerMaker) -> None:
    """HOST:PORT is understood, too, as `flc ping` and the settings write addresses."""
    ann = await peer(Nack(7))
    ended = await udp(f"localhost:{ann.port}", *TIME, stdin=NACK)

    assert (ended.code, len(records(ended))) == (0, 1)


async def test_silence_is_exit_3_where_something_was_sent(udp: Flc, peer: PeerMaker) -> None:
    """Silence is exit 3 with the hint that the key may be wrong; without a question it is 0."""
    mute = await peer()
    silent = await udp("127.0.0.1", mute.port, *HASTE, stdin=NACK)
    idle = await udp("127.0.0.1", mute.port, *HASTE)

    assert (silent.code, silent.out) == (3, "")
    error, hint = silent.err.splitlines()
    assert error == f"error: 127.0.0.1:{mute.port} did not answer"
    assert hint.endswith("key or cluster name?")
    assert idle == Ended(0, "", "")


async def test_a_bad_line_does_not_end_the_session(udp: Flc, peer: PeerMaker) -> None:
    """The error names the bad line, the other lines are sent, and the exit code is 1."""
    ann = await peer(Nack(7))
    lines = '{\n{"kind":"nack"}\n' + "[" * 100_000 + f"\n{NACK}\n"
    ended = await udp("127.0.0.1", ann.port, *TIME, stdin=lines)

    assert await ann.next() == [Nack(1)]
    assert (ended.code, len(records(ended))) == (1, 1)
    told = ended.err.splitlines()
    assert [line[:14] for line in told[::2]] == [f"error: line {n}:" for n in (1, 2, 3)]
    assert all(line.startswith("hint: ") for line in told[1::2])
    assert told[3] == "hint: nonce takes a whole number from 0 to 2^64-1"


async def test_a_datagram_has_a_limit(udp: Flc, peer: PeerMaker) -> None:
    """A line that UDP cannot carry is refused; the largest that it can is one datagram."""
    ann = await peer(Nack(7))
    rumor = '{{"kind":"rumor","receipt":false,"at":0,"blocks":["{}"]}}'
    lines = "\n".join((rumor.format("00" * 60_000), rumor.format("00" * 66_000)))
    ended = await udp("127.0.0.1", ann.port, *TIME, stdin=lines)

    (large,) = await ann.next()
    assert large.blocks == (bytes(60_000),)  # type: ignore[union-attr]  # a rumor
    assert ended.code == 1
    assert "line 2" in ended.err
    assert "65507" in ended.err


async def test_what_is_not_ours_is_shown_as_that(udp: Flc, peer: PeerMaker) -> None:
    """A dropped datagram is shown with its byte, reason and hint, and is no answer."""
    other = await peer(raw=sealer("other").close(payload_of(NODE, [Nack(7)])))
    ended = await udp("127.0.0.1", other.port, "-v", *TIME, stdin=NACK)

    assert ended.code == 3
    (record,) = records(ended)
    assert record["error"] == "key or cluster unknown"
    assert (record["in"], record["at"]) == ("datagram", 1)
    assert record["hint"] == "key or cluster name?"
    asked, sent, dropped, *_ = ended.err.splitlines()
    assert asked.endswith(f"127.0.0.1:{other.port}: hello")
    assert sent == f"sent 59 bytes to 127.0.0.1:{other.port}: nack"
    assert dropped == (
        f"dropped 59 bytes from 127.0.0.1:{other.port}: "
        "key or cluster unknown, at byte 1 of the datagram; key or cluster name?"
    )


async def test_keys_are_those_of_the_file(udp: Flc, peer: PeerMaker, tmp_path: Path) -> None:
    """With the key and name of a cluster both sides understand each other."""
    path = tmp_path / "cluster.key"
    path.write_text(make_key())
    ann = await peer(Nack(7), seal=sealer("ops", *read_keys(path)))
    words = ("127.0.0.1", ann.port, "--cluster", "ops", "--key-file", str(path))
    ended = await udp(*words, *TIME, stdin=NACK)

    assert await ann.next() == [Nack(1)]
    assert (ended.code, len(records(ended))) == (0, 1)


async def test_hex_is_what_was_on_the_wire(udp: Flc, peer: PeerMaker) -> None:
    """-x shows what came, sealed and opened; with -v also what was sent."""
    ann = await peer(Nack(7))
    ended = await udp("127.0.0.1", ann.port, "-x", "-v", *TIME, stdin=NACK)

    (record,) = records(ended)
    assert sealer().open(bytes.fromhex(record["hex"])).payload.hex() == record["payload"]
    assert bytes.fromhex(record["payload"]) == payload_of(NODE, [Nack(7)])
    _, _, _, sent, _, received = ended.err.splitlines()
    assert received == f"  {record['hex']}"
    assert codec.read(sealer().open(bytes.fromhex(sent)).payload) == (VISITOR, [Nack(1)], 0)


async def test_a_probe_is_a_ping(udp: Flc, peer: PeerMaker) -> None:
    """A probe that is answered is exit 0 without a word; -v tells what was sent and came."""
    ann = await peer(Nack(7))
    ended = await udp("-z", "127.0.0.1", ann.port)
    told = await udp("-z", "-v", "127.0.0.1", ann.port)

    assert [type(packet) for packet in await ann.next()] == [Ping]
    assert ended == Ended(0, "", "")
    assert (told.code, told.out, len(told.err.splitlines())) == (0, "", 2)


async def test_a_probe_in_silence(udp: Flc, peer: PeerMaker) -> None:
    """A probe ends with 3 and a hint if nothing comes, or junk, or a refusal."""
    mute, junk = await peer(), await peer(raw=b"junk")
    gone = (await peer()).port

    for port, words in ((mute.port, ()), (junk.port, ()), (gone, ("--cluster", "other"))):
        told = await udp("-z", *words, "127.0.0.1", port, *HASTE)
        error, hint = told.err.splitlines()

        assert (told.code, told.out) == (3, "")
        assert error == f"error: 127.0.0.1:{port} did not answer"
        assert "key or cluster name?" in hint


async def listening(
    spawn: Spawn, *words: str, **options: int
) -> tuple[asyncio.subprocess.Process, str]:
    """Start a listener; give it and its address."""
    process = await spawn("udp", "-v", *words, **options)
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), DEADLINE_S)
    word, address = line.decode().strip().rsplit(" ", 1)
    assert word == "listening at"
    return process, address


async def test_listening_decodes_what_comes(spawn: Spawn, peer: PeerMaker) -> None:
    """A listener prints what comes from anyone, in its order, also what is not ours."""
    process, address = await listening(spawn, "-l", "0", stdin=subprocess.DEVNULL)
    ann = await peer(to=address)
    ann.transport.sendto(sealer().close(payload_of(NODE, [Nack(7)])))
    ann.transport.sendto(b"junk")

    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), DEADLINE_S) for _ in range(2)]
    nack, junk = map(json.loads, lines)
    assert nack["packets"] == [{"kind": "nack", "nonce": 7}]
    assert (junk["from"], junk["error"]) == (f"127.0.0.1:{ann.port}", "datagram size")


async def test_lines_go_to_the_last_peer_that_spoke(spawn: Spawn, peer: PeerMaker) -> None:
    """Lines wait for a peer and go to the last that spoke, as in nc; junk does not count."""
    process, address = await listening(spawn, "-l", "127.0.0.1:0")
    ann, ben = await peer(to=address), await peer(to=address)

    async def speaks(speaker: Peer, datagram: bytes) -> None:
        speaker.transport.sendto(datagram)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)

    def types(nonce: int) -> None:
        assert process.stdin is not None
        process.stdin.write(b'{"kind":"nack","nonce":%d}\n' % nonce)

    types(1)
    await speaks(ann, sealer().close(payload_of(NODE, [])))
    assert await ann.next() == [Nack(1)]
    await speaks(ben, b"junk")
    types(2)
    assert await ann.next() == [Nack(2)]
    await speaks(ben, sealer().close(payload_of(NODE, [])))
    types(3)
    assert await ben.next() == [Nack(3)]


async def test_listening_in_silence_is_no_failure(udp: Flc) -> None:
    """A listener that hears nothing ends with 0: it asked nobody."""
    assert await udp("-l", "0", *HASTE) == Ended(0, "", "")


async def test_a_port_that_is_taken(udp: Flc, peer: PeerMaker) -> None:
    """The error names the address, and the hint another way."""
    ann = await peer()
    ended = await udp("-l", ann.port)

    assert ended.code == 1
    error, hint = ended.err.splitlines()
    assert error == f"error: cannot listen on 127.0.0.1:{ann.port}: Address already in use"
    assert "-l 0" in hint


async def test_hex_is_decoded_without_a_network(udp: Flc) -> None:
    """A line of hex and a capture are decoded, the latter with sender and receiver."""
    datagram = sealer().close(payload_of(NODE, [Nack(7)]))
    ended = await udp("--decode", stdin="\n".join((datagram.hex(), *dump(in_v4(datagram)))))

    plain = {"sender": NODE.hex(), "packets": [{"kind": "nack", "nonce": 7}]}
    assert (ended.code, ended.err) == (0, "")
    assert records(ended) == [plain, {"from": str(ANN), "to": str(BEN), **plain}]


@pytest.mark.parametrize(
    "bodies",
    [("one", "zwei\nZeilen", b"\xff\0", ""), tuple(map(str, range(250))), ("x" * 3_000,)],
    ids=["some", "many", "large"],
)
async def test_a_block_that_was_decoded_can_be_sent_again(
    udp: Flc, peer: PeerMaker, bodies: tuple[str | bytes, ...]
) -> None:
    """A rumor's block is an object with all its bodies; as a line to type it is the same rumor."""
    story = Story()
    blocks = (story.say("ann"), story.say("bob", "lobby", *bodies), story.say("bob"))
    sent = [Rumor(False, 7, tuple(block.encoded for block in blocks)), Nack(7)]
    decoded = await udp("--decode", stdin=sealer().close(payload_of(NODE, sent)).hex())
    (record,) = records(decoded)
    ann = await peer(Nack(7))
    again = await udp("127.0.0.1", ann.port, *TIME, stdin=json.dumps(record["packets"]))

    shown = record["packets"][0]["blocks"][1]
    assert shown["bodies"] == list(map(body_record, bodies))
    assert (shown["dot"], shown["room"], shown["author"]) == (str(blocks[1].dot), "lobby", "bob")
    assert await ann.next() == sent
    assert (decoded.code, decoded.err, again.code, again.err) == (0, "", 0, "")


async def test_a_pipe_that_does_not_block_is_read_to_its_end(spawn: Spawn) -> None:
    """What comes later is decoded, too; a line that is too long is one mistake in one line."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = await spawn("udp", "--decode", stdin=reading)
    os.close(reading)
    await asyncio.sleep(0.5)  # It has looked and found nothing yet.
    datagram = sealer().close(payload_of(NODE, [Nack(7)]))

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(b"01" * (1 << 20) + b"0\n" + datagram.hex().encode())

    await asyncio.to_thread(feed)
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)

    assert (process.returncode, json.loads(out)["packets"]) == (1, [{"kind": "nack", "nonce": 7}])
    assert err.decode().splitlines()[::2] == ["error: line 1 is not hex"]


async def test_what_cannot_be_decoded_says_at_which_byte(udp: Flc) -> None:
    """The error names the byte in the datagram or its payload; the rest is decoded; exit 1."""
    seal = sealer()
    nack = seal.close(payload_of(NODE, [Nack(7)]))
    broken = nack[:-1] + bytes((nack[-1] ^ 1,))
    newer = b"\7" + nack[1:]
    bad = seal.close(msgpack.packb([NODE, [6, 1], [6, -1]]))
    later = seal.close(msgpack.packb([NODE, [6, 1], [99, "news"]]))
    lines = [each.hex() for each in (broken, newer, bad, later)]
    ended = await udp("--decode", "-x", stdin="\n".join(("no hex", *lines)))

    assert ended.code == 1
    assert ended.err.startswith("error: line 1 is not hex\nhint: ")
    one, two, three, four = records(ended)
    assert one["hint"] == "key or cluster name?"
    assert [(r["error"], r["in"], r["at"]) for r in (one, two, three)] == [
        ("seal broken", "datagram", 29),
        ("wire version unknown", "datagram", 0),
        ("packet 2, nack.nonce: number out of range", "payload", 16),
    ]
    assert three["payload"] == msgpack.packb([NODE, [6, 1], [6, -1]]).hex()
    assert (four["unknown"], len(four["packets"])) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "1", "2"],
        ["a", "1", "-l", "2"],
        ["--decode", "-l", "2"],
        ["a", "1", "--decode"],
        ["-z", "-l", "2"],
        ["-z", "--decode"],
        ["a", "1", "-w", "soon"],
        ["127.0.0.1", "1", "--cluster", "\udcff"],
    ],
)
def test_a_line_that_cannot_be_parsed(words: list[str]) -> None:
    """A line that means none of the three ways, or two of them, is exit 2."""
    with pytest.raises(SystemExit) as ended:
        main(["udp", *words])

    assert ended.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["127.0.0.1", "0"],
        ["127.0.0.1", "port"],
        ["127.0.0.1:99999"],
        ["nowhere.invalid", "7352"],
        ["x" * 70, "7352"],
        ["-l", "port"],
        ["-l", "192.0.2.1:0"],
        ["127.0.0.1", "1", "--key-file", "/nowhere"],
    ],
)
async def test_an_address_or_a_key_that_is_none(flc: Flc, words: list[str]) -> None:
    """A wrong address or key file is one error and one hint."""
    ended = await flc("udp", *words)

    assert (ended.code, ended.out) == (1, "")
    error, hint = ended.err.splitlines()
    assert error.startswith("error: ")
    assert len(hint) > len("hint: ")


async def test_output_that_nobody_reads_ends_it_quietly(spawn: Spawn) -> None:
    """`flc udp -l 0 | head -1` ends."""
    process, _ = await listening(spawn, "-l", "0")
    assert process.stdout is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # no other way

    assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
