"""What may stand in the small tables: the node's own facts, its peers, rows of logs and rooms.

Rules. A start looks at these, because the node would claim what it does not hold, or refuse what
comes next. Whether the rows are what the blocks say, `fsck` tells.
"""

import sqlite3
from collections.abc import Mapping

from flc_udp.config import ID_BYTES, INCARNATION_LIMIT, SEQ_LIMIT, STAMP_LIMIT
from flc_udp.model.block import peek_dot
from flc_udp.model.errors import StoreFailed
from flc_udp.model.labels import is_label
from flc_udp.store.rot import is_sound
from flc_udp.store.sums import changed_rows

NUMBER_LIMIT = 1 << 61
REMEDY = "stop the node, and `flc fsck --repair` mends it"
COUNTS = {
    "incarnation": INCARNATION_LIMIT,
    "floor": STAMP_LIMIT,
    "pruned_below": STAMP_LIMIT,
    "pruned": NUMBER_LIMIT,
    "base": NUMBER_LIMIT,
}
"""The facts that are numbers, and what each is below."""


def _all(columns: str, condition: str) -> str:
    return " AND ".join(f"({condition.format(column)})" for column in columns.split())


NUMBER = "typeof({0}) = 'integer' AND {0} >= 0"
SANE = {
    "log": " AND ".join((
        "typeof(id) = 'blob'", f"length(id) = {ID_BYTES}", f"seq < {SEQ_LIMIT}",
        f"stamp < {STAMP_LIMIT}", "base_seq <= seq", _all("hash base_hash", "typeof({0}) = 'blob'"),
        _all("no seq stamp base_seq base_stamp", NUMBER),
    )),
    "room": " AND ".join((
        "typeof(name) = 'text'", _all("no messages stamp position", NUMBER),
        f"position < {NUMBER_LIMIT}",
    )),
    "clock": _all("room_no log_no seq base_seq", NUMBER),
    "arrival": " AND ".join((
        _all("position wall_ms least_stamp", NUMBER),
        "position <= (SELECT ifnull(max(position), 0) FROM room)",  # Else appending fails there.
    )),
}  # fmt: skip
SELECT_ENDS = """
    SELECT log.id, log.seq, log.hash, block.seq, block.hash, base_seq, encoded
    FROM log LEFT JOIN block ON block.log_no = log.no AND block.seq = (
        SELECT max(seq) FROM block WHERE log_no = log.no)
"""


def is_fact(key: object, value: object) -> bool:
    """Whether this can be a row of the table `node`."""
    if key == "id":
        return isinstance(value, bytes) and len(value) == ID_BYTES
    if key == "life":
        return isinstance(value, str)
    return key in COUNTS and isinstance(value, int) and 0 <= value < COUNTS[str(key)]


def is_peer(node: object, name: object, address: object) -> bool:
    """Whether this can be a row of the table `peer`."""
    is_id = isinstance(node, bytes) and len(node) == ID_BYTES
    return is_id and all(isinstance(text, str) and is_label(text) for text in (name, address))


def check_rows(connection: sqlite3.Connection) -> None:
    """Raise StoreFailed if a row cannot be, or if a log's row is not what its last block says."""
    for key, value in connection.execute("SELECT key, value FROM node"):
        if not is_fact(key, value):
            raise _changed(f"what the node keeps as {key!r} is {value!r}")
    for table, condition in SANE.items():
        sql = f"SELECT count(*) FROM {table} WHERE ({condition}) IS NOT TRUE"  # noqa: S608  # ours
        if count := connection.execute(sql).fetchone()[0]:
            raise _changed(f"{count} rows of the table {table} make no sense")
    if changed := changed_rows(connection, ("node", "log", "room", "clock")):
        raise StoreFailed("load", changed_words(changed))
    for log, told, digest, held, held_digest, base, encoded in connection.execute(SELECT_ENDS):
        is_pruned = held is None and told == base
        # The block's bytes tell where only the hash in its row has changed: the node mends that.
        is_end = told == held and (digest == held_digest or is_sound(encoded, digest))
        if not (is_pruned or is_end):
            raise _changed(f"the row of log {log.hex()} ends at {told}, and its blocks at {held}")
        dot = peek_dot(encoded) if is_sound(encoded, held_digest) else None
        if dot is not None and dot.log != log:
            raise _changed(f"the row of log {dot.log.hex()} calls it {log.hex()}")


def changed_words(changed: Mapping[str, int]) -> str:
    """What is to be said of {table: how many of its rows have changed on the disk}."""
    rows = ", ".join(f"{count} of the table {table}" for table, count in changed.items())
    return f"rows have changed on the disk, {rows}: {REMEDY}"


def _changed(problem: str) -> StoreFailed:
    return StoreFailed("load", f"{problem}: {REMEDY}")
