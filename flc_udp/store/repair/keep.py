"""What is kept beside blocks: the node's own facts, peers, clients' numbers, and times of arrival.

Rules. Nothing is kept that cannot be true. A node whose incarnation cannot be read becomes another
node, because others may know a greater one than it would begin with. Where a client's last message
is gone, all its numbers up to that are refused from now on, so nothing is said twice. If a row of
the times of arrival is missing or wrong, what it told of counts as arrived with the next row.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from flc_udp.config import ONCE_REMEMBERED, SEQ_LIMIT, STAMP_LIMIT
from flc_udp.model.dots import LogId
from flc_udp.model.history import NO_HEAD, Head
from flc_udp.model.units import Millis
from flc_udp.store.arrivals import INSERT_ARRIVAL
from flc_udp.store.once import KEEP_NUMBER, PAIR, hash_of_client, newest
from flc_udp.store.repair.tables import is_count, is_whole, salvaged, summed
from flc_udp.store.sanity import is_fact, is_peer
from flc_udp.store.writer_memory import SAVE_FACT

END = STAMP_LIMIT
"""The position of a row that stands for whatever may have come after all others."""

SAVE_PEER = "INSERT OR REPLACE INTO peer (id, name, address) VALUES (?, ?, ?)"
LEAST_STAMP = f"""
    SELECT ifnull(min(stamp), {STAMP_LIMIT}) FROM block
    WHERE position >= ? AND position < ? AND stamp >= ?
"""  # noqa: S608  # a number of ours


def facts(old: sqlite3.Connection) -> dict[object, Any]:
    """What the node keeps about itself, by keys: None where that has changed."""
    rows = summed(old, "node", "key")
    return {key: value if is_sound else None for (key, value), is_sound, _ in rows}


def keep_node(
    old: sqlite3.Connection, new: sqlite3.Connection, known: dict[object, Any]
) -> Iterator[str]:
    """Write identity and peers; yields what is gone of them."""
    if all(is_fact(key, known.get(key)) for key in ("id", "incarnation")):
        new.executemany(SAVE_FACT, [(key, known[key]) for key in ("id", "incarnation")])
    elif {"id", "incarnation"} & known.keys() or not is_whole(old, "node"):
        yield "the node's id or incarnation cannot be read: it will start as a new member"
    peers = list(summed(old, "peer", "id"))
    good = [row.columns for row in peers if row.is_sound and is_peer(*row.columns)]
    new.executemany(SAVE_PEER, good)
    if len(good) < len(peers) or not is_whole(old, "peer"):
        yield "some remembered members cannot be read: start with --join"


def keep_once(
    old: sqlite3.Connection, new: sqlite3.Connection, heads: dict[LogId, Head]
) -> Iterator[str]:
    """Write what clients numbered; yields the clients of which not all is known any more."""
    past = list(summed(old, "past_client", "rowid"))
    numbers = [row.columns for row in past if row.is_sound]
    is_known = len(numbers) == len(past) and is_whole(old, "once") and is_whole(old, "past_client")
    clients: set[object] = set()
    for (client, said), is_sound, _ in summed(old, "once", "rowid"):
        if client in clients or not isinstance(client, str):
            continue
        pairs = _pairs(said)
        is_known &= is_sound
        kept = [p for p in pairs if 0 < p[2] <= heads.get(LogId(p[1]), NO_HEAD).seq]
        if is_sound and not pairs:
            continue
        clients.add(client)
        if not is_sound:
            numbers.append((hash_of_client(client), SEQ_LIMIT))
            yield f"client {client!r}: all its numbers are refused from now on"
        elif kept[-1:] == pairs[-1:]:
            packed = b"".join(PAIR.pack(*pair) for pair in kept)
            new.execute("INSERT INTO once (client, said) VALUES (?, ?)", (client, packed))
        else:
            numbers.append((hash_of_client(client), newest(said)))
            yield f"client {client!r}: its numbers up to {newest(said)} are refused from now on"
    new.executemany(KEEP_NUMBER, numbers)
    if not is_known:
        yield "what some clients numbered cannot be read: a repeat of theirs would be said again"
    named = {client for (client,) in salvaged(old, "SELECT client FROM once", "client")}
    for client in sorted(map(repr, named - clients)):
        yield f"client {client}: its numbers are not known any more, a repeat would be said again"


def _pairs(said: object) -> list[tuple[int, bytes, int]]:
    """What a client said, or nothing if that cannot be."""
    if not isinstance(said, bytes) or not said or len(said) % PAIR.size:
        return []
    pairs = list(PAIR.iter_unpack(said))
    numbers = [-1, *(number for number, _, _ in pairs)]
    rise = all(low < high for low, high in pairwise(numbers))
    return pairs if rise and len(pairs) <= ONCE_REMEMBERED else []


def keep_arrivals(
    old: sqlite3.Connection, new: sqlite3.Connection, moved: Callable[[int], int], now: Millis
) -> None:
    """Write when what is held arrived; `moved` tells where a position is now."""
    end = new.execute("SELECT ifnull(max(position), 0) FROM room").fetchone()[0]
    found = list(summed(old, "arrival", "position"))
    rows = list(dict.fromkeys(tuple(row.columns) for row in found if row.is_sound))
    good = _rising([row for row in rows if all(map(is_count, row))])
    is_good = len(good) == len(rows) and all(row.is_sound for row in found)
    if not (is_good and is_whole(old, "arrival")):
        is_good = False
        good.append((END, max([now, *(row[1] + 1 for row in good)]), STAMP_LIMIT))
    sql = "SELECT ifnull(max(value), 0) FROM node WHERE key = 'pruned_below'"
    (pruned_below,) = new.execute(sql).fetchone()
    kept: dict[int, tuple[int, int]] = {}
    before = 0
    for position, wall, least in good:
        place = max(end if position == END else moved(position), before)
        if not 0 < place <= end:
            continue  # Of what arrived then nothing is held.
        # What stood under a row that is missing counts as arrived later.
        since = place if is_good else before
        under = new.execute(LEAST_STAMP, (since, place, pruned_below)).fetchone()
        kept[place] = (wall, min(least, *under, kept.get(place, (0, STAMP_LIMIT))[1]))
        before = place
    new.execute("DELETE FROM arrival")
    told = [(place, *row) for place, row in kept.items()]
    new.executemany(INSERT_ARRIVAL, told)


def _rising(rows: Sequence[Any]) -> list[Any]:
    """The rows without those whose time does not fit between the others'."""
    kept: list[Any] = []
    for row in sorted(rows):
        if len(kept) > 1 and kept[-2][1] < row[1] <= kept[-1][1]:
            kept.pop()
        if not kept or kept[-1][1] < row[1]:
            kept.append(row)
    return kept
