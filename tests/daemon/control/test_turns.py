"""Clients that send much at once: their lines are done in turns, and the node has its own."""

import asyncio
import json
import socket
from collections import Counter
from types import SimpleNamespace

import pytest

from flc_udp.daemon.control import turns as turns_module
from flc_udp.daemon.control.held import Held, SentLines
from flc_udp.daemon.control.output import OUTPUT_BYTES_HIGH
from flc_udp.daemon.control.turns import SHARE_S, TURN_S, Turns
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import until
from tests.daemon.wire import Wire

LINE_S = 0.001
SAYS = 3_000


class Busy:
    """A client whose lines take LINE_S each, of a clock that only they move."""

    now_s = 0.0
    done: list["Busy"]

    def __init__(self, turns: Turns, lines: int) -> None:
        self.turns, self.lines, self.aborted = turns, lines, False

    def do_lines(self, until_s: float) -> None:
        """Do lines until then."""
        while self.lines:
            self.lines -= 1
            Busy.done.append(self)
            Busy.now_s += LINE_S
            if Busy.now_s >= until_s:
                break
        if self.lines:
            self.turns.soon(self)

    def abort(self) -> None:
        """It is ended."""
        self.aborted = True


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What failed; the clock stands but for lines."""
    Busy.done, Busy.now_s = [], 0.0
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=lambda: Busy.now_s))
    return Counter()


async def most_in_a_turn() -> int:
    """Let the loop go round until nothing is done, and give the most lines between two rounds."""
    most, before = 0, -1
    while before != len(Busy.done):
        before = len(Busy.done)
        await asyncio.sleep(0)
        most = max(most, len(Busy.done) - before)
    return most


async def test_other_work_has_its_turn_however_many_wait(failed: Counter[str]) -> None:
    """One client with many lines or many clients: the loop goes round after TURN_S of lines."""
    turns = Turns(lambda part, _: failed.update([part]))
    for clients in (1, 60):
        for _ in range(clients):
            turns.soon(Busy(turns, 500))
        assert 0 < await most_in_a_turn() <= TURN_S / LINE_S + 1
    assert len(Busy.done) == 61 * 500


async def test_a_client_with_one_line_waits_for_a_share_of_each_other(failed: Counter[str]) -> None:
    """And not for all that they have."""
    turns = Turns(lambda part, _: failed.update([part]))
    others, last = [Busy(turns, 500) for _ in range(10)], Busy(turns, 1)
    for client in (*others, last):
        turns.soon(client)
    await most_in_a_turn()
    assert Busy.done.index(last) <= len(others) * (SHARE_S / LINE_S + 1)


async def test_a_client_fails_alone(failed: Counter[str]) -> None:
    """It is ended and counted, and the others have their turns."""

    class Broken(Busy):
        def do_lines(self, until_s: float) -> None:
            raise ValueError(until_s)

    turns = Turns(lambda part, _: failed.update([part]))
    broken, well = Broken(turns, 1), Busy(turns, 20)
    turns.soon(broken)
    turns.soon(well)
    await most_in_a_turn()
    assert (broken.aborted, well.lines, failed) == (True, 0, Counter({"a client": 1}))


def test_lines_are_held_until_their_turn() -> None:
    """Whole ones and the beginning of the next one, and nothing of them afterwards."""
    held = Held()
    lines = SentLines(held)
    for data in (b"one\ntw", b"o\n\nthr"):
        lines.add(data)
    assert held.used_bytes == 12
    taken = [lines.next() for _ in range(4)]
    assert (taken, lines.wait, lines.has_begun) == ([b"one", b"two", b"", None], False, True)
    assert held.used_bytes == 3
    lines.add(b"ee\nfour\nfi")
    assert lines.next() == b"three"
    lines.drop()
    assert held.used_bytes == 0


@pytest.mark.parametrize("line", [b'{"op":"status"}\n', b"x\n"])
async def test_a_burst_that_nobody_reads_is_not_answered(
    ann: Node, wire: Wire, line: bytes
) -> None:
    """Only what fits into the limit is. The rest waits, and others are served."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(str(ann.data / "control.sock"))
        mute.setblocking(False)
        mute.send(line * (200_000 // len(line)))

        async def stuck() -> bool:
            clients = (await wire.ask({"op": "status"}))["clients"]
            assert clients["unread_bytes"] < 2 * OUTPUT_BYTES_HIGH
            return bool(clients["blocked"] and clients["held_bytes"])

        await until("it is blocked, and lines wait", stuck)

    async def forgotten() -> bool:
        clients = (await wire.ask({"op": "status"}))["clients"]
        return not clients["blocked"] and not clients["held_bytes"]

    await until("nothing is held of it when it has gone", forgotten)


async def test_a_burst_buries_nobody(cluster: Cluster, wires: list[Wire]) -> None:
    """A client that asks for 8,000 things at once gets them all, and peers hear the node."""
    ann, ben = await cluster.start(2)
    wire = await Wire.to(ann, wires)
    await wire.send(*[{"op": "status"}] * 8_000)
    answers = [await wire.read() for _ in range(8_000)]
    assert all(answer["ok"] for answer in answers)
    assert (await ann.ask("status"))["stood_still"] is None
    assert ben.logged("member_suspected", "member_died") == []


SAY_LINES = b"".join(b'{"op":"say","room":"ops","body":"%d"}\n' % n for n in range(SAYS))


async def test_who_says_much_and_half_closes_is_answered(ann: Node) -> None:
    """Each say, in their order, and the last line too, which has no newline."""
    reader, writer = await asyncio.open_unix_connection(str(ann.data / "control.sock"))
    writer.write(SAY_LINES + b'{"op":"digest","id":"last"}')
    writer.write_eof()
    *answers, last = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    by_op = {"id" in answer: answer for answer in (*answers, last)}
    assert by_op[True]["ok"]
    dots = [answer["dot"] for answer in (*answers, last) if "dot" in answer]
    assert [dot.partition(":")[2] for dot in dots] == [str(n) for n in range(1, SAYS + 1)]


async def test_who_says_much_and_goes_has_said_it(ann: Node, wire: Wire) -> None:
    """Nothing of it is lost because nobody waited for the answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(ann.data / "control.sock"))
        client.sendall(SAY_LINES)

    async def all_there() -> bool:
        return bool((await wire.ask({"op": "digest"}))["messages"] == SAYS)

    await until("all of it is said", all_there)
    status = await wire.ask({"op": "status"})
    assert (status["failures"], status["clients"]["held_bytes"]) == ({}, 0)
