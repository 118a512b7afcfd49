"""The rooms of a log, as people list them."""

from collections.abc import Iterator
from itertools import starmap
from typing import NamedTuple

from flc_udp.config import STAMP_LIMIT
from flc_udp.model.errors import StoreFailed
from flc_udp.model.labels import is_label
from flc_udp.store.queries import PAGE_ROWS, Queries

SELECT_ROOMS = """
    SELECT name, messages, (SELECT count(*) FROM clock WHERE room_no = room.no), stamp, position
    FROM room WHERE name > ? AND EXISTS (SELECT 1 FROM clock WHERE room_no = room.no)
    ORDER BY name LIMIT ?
"""


class RoomRow(NamedTuple):
    """A room: messages held, logs that spoke in it, its greatest stamp and position."""

    room: str
    messages: int
    logs: int
    last_stamp: int
    position: int


def read_rooms(queries: Queries) -> Iterator[RoomRow]:
    """All rooms, by name; raises StoreFailed. A room that comes meanwhile may be left out."""
    last = ""
    while rows := queries.rows(SELECT_ROOMS, (last, PAGE_ROWS)):
        with queries.reading():
            page = list(starmap(_row, rows))
        yield from page
        last = page[-1].room


def _row(room: object, messages: object, logs: int, stamp: object, position: object) -> RoomRow:
    match room, messages, stamp, position:
        case str(), int(), int(), int() if is_label(room) and 0 <= stamp < STAMP_LIMIT:
            return RoomRow(room, messages, logs, stamp, position)
    raise StoreFailed("read", f"the row of room {room!r} has changed on the disk")
