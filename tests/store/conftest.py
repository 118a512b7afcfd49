"""Authors that write causally valid messages, and a log to keep them in."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flc_udp.model.clocks import next_stamp
from flc_udp.model.dots import Dot
from flc_udp.model.history import NO_HEAD, Edge, Frontier, Head, advance
from flc_udp.model.message import Message, Origin, write
from flc_udp.store.log import Log


class Authors:
    """Named authors, each with its own log and its own, perhaps old, view of each room."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self._heads: dict[bytes, Head] = {}
        self._views: dict[tuple[str, str], Frontier] = {}
        self._rooms: dict[str, Frontier] = {}

    def log(self, author: str) -> bytes:
        """The id of an author's log."""
        return hashlib.blake2b(author.encode(), digest_size=8).digest()

    def listen(self, author: str, room: str) -> None:
        """The author hears all that was said in a room."""
        self._views[author, room] = dict(self._rooms.get(room, {}))

    def say(self, author: str, room: str = "lobby", body: str = "hi", wall: int = 1_000) -> Message:
        """One message, with the author's view of the room as its causes."""
        log = self.log(author)
        head = self._heads.get(log, NO_HEAD)
        view = self._views.setdefault((author, room), {})
        causes = {Dot(other, edge.seq): edge for other, edge in view.items() if other != log}
        greatest = max((edge.stamp for edge in causes.values()), default=0)
        message = write(
            log=log,
            seq=head.seq + 1,
            room=room,
            author=author,
            wall=wall,
            stamp=next_stamp(wall, head.stamp, greatest),
            causes=tuple(causes),
            parent=head.hash,
            body=body,
            origin=None if head.seq else Origin(log[::-1], author),
        )
        self._heads[log] = Head(message.seq, message.hash, message.stamp)
        for frontier in (view, self._rooms.setdefault(room, {})):
            advance(frontier, message)
        self.said.append(message)
        return message

    def edges(self, room: str) -> dict[bytes, Edge]:
        """The frontier by its definition: what no other message of the room comes after."""
        inside = [m for m in self.said if m.room == room]
        covered = {log: seq for m in inside for log, seq in sorted(m.causes)}
        for message in inside:
            for log, seq in message.causes:
                covered[log] = max(covered[log], seq)
        last = {m.log: m for m in inside}
        return {log: Edge(m.seq, m.stamp) for log, m in last.items() if covered.get(log, 0) < m.seq}


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
