"""Lists and follows take turns at the log: how many read between two turns of the loop, and who."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from flc_udp.daemon.control import lists as lists_module
from flc_udp.daemon.control.lists import LISTS_MAX, Listing, Lists, Pause
from flc_udp.daemon.control.output import (
    OUTPUT_BYTES,
    OUTPUT_BYTES_HIGH,
    UNREAD_BYTES_MAX,
    share_bytes,
)
from flc_udp.daemon.control.reads import SLICE_S, ReadTurns
from flc_udp.daemon.control.server import CONNECTIONS_MAX
from flc_udp.wire.message_json import Record
from tests.daemon.cluster import Node
from tests.daemon.wire import Wire

ITEM_S = 0.3 * SLICE_S
ITEMS_A_TURN = 4


class Reader:
    """The other end of lists. Each item takes ITEM_S of a clock that only items move."""

    now_s = 0.0
    items: list["Reader"]

    def __init__(self) -> None:
        self.ended = 0
        self.failures: list[Exception] = []
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_full(self) -> bool:
        """Whether it does not read."""
        return not self._room.is_set()

    async def has_room(self) -> None:
        """Wait until it reads."""
        await self._room.wait()

    def answer(self, record: Record, _tag: bytes) -> None:
        """An item or an end came."""
        Reader.items.append(self)
        Reader.now_s += ITEM_S
        self.ended += "end" in record

    def list_failed(self, _op: str, error: Exception, _tag: bytes) -> None:
        """A list failed."""
        self.failures.append(error)

    def listed(self) -> None:
        """A list has ended."""

    def stop_reading(self) -> None:
        """Take nothing more."""
        self._room.clear()

    def go_on(self) -> None:
        """Read again."""
        self._room.set()


def of(count: int) -> Listing:
    """A list of so many items and its end."""

    async def items(_pause: Pause) -> AsyncIterator[Record]:
        for number in range(count):
            yield {"n": number}
        yield {"end": True}

    return items


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> ReadTurns:
    """Turns of a clock that only items move."""
    Reader.items, Reader.now_s = [], 0.0
    clock = SimpleNamespace(monotonic=lambda: Reader.now_s)
    monkeypatch.setattr(lists_module, "time", clock)
    return ReadTurns()


async def most_between_two_turns_of_the_loop(lists: list[Lists]) -> int:
    """Let the loop go round until all lists have ended; the most items between two rounds."""
    most = 0
    while any(map(len, lists)):
        before = len(Reader.items)
        await asyncio.sleep(0)
        most = max(most, len(Reader.items) - before)
    return most


@pytest.mark.parametrize("clients", [1, 200])
async def test_the_loop_goes_round_after_one_slice(turns: ReadTurns, clients: int) -> None:
    """However many clients ask for however much."""
    lists = [Lists(Reader(), turns) for _ in range(clients)]
    for each in lists:
        for _ in range(3):
            each.add("log", of(19), b"")

    assert await most_between_two_turns_of_the_loop(lists) == ITEMS_A_TURN
    assert len(Reader.items) == clients * 3 * 20
    assert len(turns) == 0


async def test_connections_have_their_turns_in_order(turns: ReadTurns) -> None:
    """A client with one item waits for a slice of each other, and not for all that they ask."""
    readers = [Reader() for _ in range(10)]
    lists = [Lists(reader, turns) for reader in readers]
    for each in lists[:-1]:
        each.add("log", of(1_000), b"")
    lists[-1].add("rooms", of(0), b"")
    await most_between_two_turns_of_the_loop(lists)

    assert Reader.items.index(readers[-1]) <= 9 * ITEMS_A_TURN


async def test_follows_of_one_connection_share_its_turns() -> None:
    """A thousand of them have no more of the loop than the one of another connection."""
    turns, read = ReadTurns(), list[str]()
    for _ in range(1_000):
        turns.soon("many", lambda: read.append("many"))
    for _ in range(3):
        turns.soon("few", lambda: read.append("few"))
    assert len(turns) == 1_003
    for number in range(6):
        assert len(read) == number
        await asyncio.sleep(0)
    assert read == ["many", "few"] * 3

    turns.forget("many")
    for _ in range(3):
        await asyncio.sleep(0)
    assert (len(turns), read[6:]) == (0, [])


async def test_who_does_not_read_keeps_nobody_waiting(turns: ReadTurns) -> None:
    """Its turn goes to others, and when it reads again it has one of its own."""
    deaf, other = Reader(), Reader()
    lists = [Lists(deaf, turns), Lists(other, turns)]
    for each in lists:
        each.add("log", of(19), b"")
    deaf.stop_reading()
    await most_between_two_turns_of_the_loop(lists[1:])
    assert other.ended == 1
    assert deaf not in Reader.items
    deaf.go_on()
    assert await most_between_two_turns_of_the_loop(lists) == ITEMS_A_TURN
    assert deaf.ended == 1


async def test_a_list_that_fails_or_whose_reader_goes_stops_no_other(turns: ReadTurns) -> None:
    """Of the same client or of others."""

    async def broken(_pause: Pause) -> AsyncIterator[Record]:
        yield {"n": 0}
        raise KeyError("odd")

    gone, here = Reader(), Reader()
    lists = [Lists(gone, turns), Lists(here, turns)]
    lists[0].add("log", of(1_000), b"")
    lists[1].add("log", broken, b"")
    lists[1].add("log", of(9), b"")
    for _ in range(3):
        await asyncio.sleep(0)
    lists[0].stop()
    await most_between_two_turns_of_the_loop(lists[1:])

    assert (here.ended, len(here.failures), gone.ended) == (1, 1, 0)


async def test_so_many_lists_of_one_client_wait(turns: ReadTurns) -> None:
    """Then its lines do."""
    lists = Lists(Reader(), turns)
    for _ in range(LISTS_MAX):
        assert not lists.are_many
        lists.add("log", of(0), b"")
    assert lists.are_many
    await asyncio.sleep(0)  # The first of them is read.
    assert (lists.are_many, len(lists)) == (False, LISTS_MAX)
    lists.stop()


def test_all_clients_share_what_may_be_unread() -> None:
    """A few have as much as each may have, and many no more than that together."""
    shares = {clients: share_bytes(clients) for clients in range(CONNECTIONS_MAX + 1)}

    assert shares[0] == shares[1] == shares[64] == OUTPUT_BYTES_HIGH
    assert all(share >= OUTPUT_BYTES for share in shares.values())
    assert all(clients * share <= UNREAD_BYTES_MAX for clients, share in shares.items())
    assert len(set(shares.values())) < 6


async def test_a_long_walk_gives_turns_too(ann: Node, wires: list[Wire]) -> None:
    """What lists nothing for long, as a log's clocks before its first line, lets others read."""
    one, other = [await Wire.to(ann, wires) for _ in range(2)]
    for _ in range(10):
        await one.ask({"op": "say", "room": "ops", "bodies": ["x"] * 10_000})
    await one.send({"op": "log", "n": 1, "clock": True})
    await other.send({"op": "rooms"})
    assert (await other.read_list())[0]["messages"] == 100_000
    (last,) = await one.read_list()
    assert last["seq"] == 100_000
