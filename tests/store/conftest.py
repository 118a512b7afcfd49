"""Authors that write causally valid blocks, and a log to keep them in."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flc_udp.model.block import Block, Origin, pack_body, write
from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot
from flc_udp.model.history import NO_HEAD, Edge, Frontier, Head, advance
from flc_udp.store.log import Log


class Authors:
    """Named authors, each with its own log and its own, perhaps old, view of each room."""

    def __init__(self) -> None:
        self.said: list[Block] = []
        self._heads: dict[bytes, Head] = {}
        self._views: dict[tuple[str, str], Frontier] = {}
        self._rooms: dict[str, Frontier] = {}

    def log(self, author: str) -> bytes:
        """The id of an author's log."""
        return hashlib.blake2b(author.encode(), digest_size=8).digest()

    def listen(self, author: str, room: str) -> None:
        """The author hears all that was said in a room."""
        self._views[author, room] = dict(self._rooms.get(room, {}))

    def say(
        self, author: str, room: str = "lobby", body: str = "hi", *more: str, wall: int = 1_000
    ) -> Block:
        """One block of one message or more, with the author's view of the room as its causes."""
        log = self.log(author)
        head = self._heads.get(log, NO_HEAD)
        view = self._views.setdefault((author, room), {})
        causes = {Dot(other, edge.seq): edge for other, edge in view.items() if other != log}
        greatest = max((edge.stamp for edge in causes.values()), default=0)
        block = write(
            log=log,
            first=head.seq + 1,
            room=room,
            author=author,
            wall=wall,
            stamp=next_stamp(wall, head.stamp, greatest),
            causes=tuple(causes),
            parent=head.hash,
            bodies=[pack_body(body) for body in (body, *more)],
            origin=None if head.seq else Origin(log[::-1], author),
        )
        self._heads[log] = Head(block.last, block.hash, block.stamp)
        for frontier in (view, self._rooms.setdefault(room, {})):
            advance(frontier, block)
        self.said.append(block)
        return block

    def edges(self, room: str) -> dict[bytes, Edge]:
        """The frontier by its definition: what no other message of the room comes after."""
        inside = [b for b in self.said if b.room == room]
        covered = {log: seq for b in inside for log, seq in sorted(b.causes)}
        for block in inside:
            for log, seq in block.causes:
                covered[log] = max(covered[log], seq)
        last = {b.log: Edge(b.last, b.stamp) for b in inside}
        return {log: edge for log, edge in last.items() if covered.get(log, 0) < edge.seq}


@pytest.fixture(scope="session")
def new_authors() -> Callable[[], Authors]:
    """Make authors: for tests that need fresh ones in each example."""
    return Authors


@pytest.fixture
def authors() -> Authors:
    """Authors who have said nothing yet."""
    return Authors()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log on disk."""
    log = Log.open(tmp_path / "flc.db")
    yield log
    log.close()
