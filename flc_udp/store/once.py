"""Saying once: a client numbers what it says, and a repeated number finds the first dot again.

A client's numbers rise. Its last `ONCE_REMEMBERED` numbers are kept with their dots, packed in one
value, the oldest first. So a client costs one row, and a repeat is found after any restart. Those
clients are remembered so that said something last, because every run of `flc nc` is another client.
Of many more, only the greatest number is kept: what they repeat is refused, and never said again.
"""

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise

from flc_udp.config import ID_BYTES, ONCE_REMEMBERED, SEQ_LIMIT
from flc_udp.model.dots import Dot, LogId
from flc_udp.store.queries import check_sound
from flc_udp.store.sums import IS_SOUND, sum_of

CLIENTS_MAX = 4_096
"""At most this many clients are remembered with their dots, in rows of up to 24 kB."""

PAST_CLIENTS_MAX = 1_000_000
"""Of so many others the greatest number is remembered, by the hash of their names: 30 bytes each. A
client that is older counts as new."""

PAIR = struct.Struct(f">q{ID_BYTES}sq")
"""(number, log id, seq)."""

FORGOTTEN = """
    rowid <= (SELECT rowid FROM once ORDER BY rowid DESC LIMIT 1 OFFSET ?)
"""
SELECT_FORGOTTEN = f"SELECT client, said FROM once WHERE {FORGOTTEN}"  # noqa: S608  # ours
FORGET = f"DELETE FROM once WHERE {FORGOTTEN}"  # noqa: S608  # ours
KEEP_SAID = f"""
    REPLACE INTO once (client, said, checksum) VALUES (?1, ?2, {sum_of("once", ["?1", "?2"])})
"""  # noqa: S608  # texts of ours
KEEP_NUMBER = "REPLACE INTO past_client (hash, n) VALUES (?, ?)"
FORGET_NUMBERS = "DELETE FROM past_client WHERE rowid <= (SELECT max(rowid) FROM past_client) - ?"
SELECT_NUMBER = f"SELECT n, {IS_SOUND['past_client']} FROM past_client WHERE hash = ?"  # noqa: S608  # ours
SELECT_SAID = f"SELECT said, {IS_SOUND['once']} FROM once WHERE client = ?"  # noqa: S608  # ours
CHANGED = "what a client said under its numbers"


def write_once(connection: sqlite3.Connection, once: Iterable[tuple[str, int, Dot]]) -> None:
    """Remember (client, n, dot), with n rising for each client, in the caller's transaction.

    A client's row is written once, whatever it said in the transaction, and its oldest numbers make
    room. A row that is replaced becomes the last one, so the first rows are those that were not
    used for longest.
    """
    by_client: dict[str, list[tuple[int, Dot]]] = {}
    for client, n, dot in once:
        by_client.setdefault(client, []).append((n, dot))
    is_grown = False
    for client, fresh in by_client.items():
        row = connection.execute("SELECT said FROM once WHERE client = ?", (client,)).fetchone()
        is_grown |= row is None
        said = row[0] if row else b""
        before = newest(said) if row else past_number(connection, client)
        numbers = [before, *(n for n, _ in fresh)]
        assert all(one < other for one, other in pairwise(numbers)), "a client's numbers rise"
        said += b"".join(PAIR.pack(n, *dot) for n, dot in fresh)
        remembered = said[-ONCE_REMEMBERED * PAIR.size :]
        connection.execute(KEEP_SAID, (client, remembered))
    if is_grown:
        past = connection.execute(SELECT_FORGOTTEN, (CLIENTS_MAX,)).fetchall()
        connection.executemany(KEEP_NUMBER, _numbers(past))
        connection.execute(FORGET, (CLIENTS_MAX,))
        connection.execute(FORGET_NUMBERS, (PAST_CLIENTS_MAX,))


def _numbers(past: Iterable[tuple[object, object]]) -> Iterator[tuple[bytes, int]]:
    """What stays of clients that are forgotten: their greatest numbers.

    Where a row has changed on the disk, all numbers are taken for said.
    """
    for client, said in past:
        if isinstance(client, str):
            whole = said if isinstance(said, bytes) and len(said) % PAIR.size == 0 else None
            yield hash_of_client(client), SEQ_LIMIT if whole is None else newest(whole)


def past_number(connection: sqlite3.Connection, client: str) -> int:
    """The greatest number of a client that has no row any more, or -1."""
    for n, is_sound in connection.execute(SELECT_NUMBER, (hash_of_client(client),)).fetchall():
        check_sound(is_sound=is_sound, of=CHANGED)
        return int(n)
    return -1


def hash_of_client(client: str) -> bytes:
    """What stands for a client that has no row any more."""
    return blake2b(client.encode(), digest_size=8).digest()


def newest(said: bytes) -> int:
    """The greatest number that was said, or -1; raises StoreFailed if the row has changed."""
    if not isinstance(said, bytes) or len(said) % PAIR.size:
        check_sound(is_sound=False, of=CHANGED)
    return int(PAIR.unpack_from(said, len(said) - PAIR.size)[0]) if said else -1


def find(said: bytes, n: int, count: int) -> tuple[list[Dot | None], int]:
    """What was said under `count` numbers from `n` on: None for a number that is not remembered.

    The second value is the greatest number that was said, or -1.
    """
    last = newest(said)
    known = PAIR.iter_unpack(said) if n <= last else ()  # Most numbers are new.
    dots = {number: Dot(LogId(log), seq) for number, log, seq in known}
    return [dots.get(number) for number in range(n, n + count)], last
