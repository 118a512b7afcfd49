"""The rows of blocks in a file, whatever has become of the trees that lead to their pages.

Rules. Each page that may be a leaf of a table is read by SQLite's file format (sqlite.org, sections
1.5, 1.6 and 2.1). What is no row of a block is passed over, and so are pages and rows that cannot
be read. Pages that are no longer used are read, too. So a row may come twice, or be an old one:
whoever takes it asks the hash chain. A page whose kind has one wrong bit is still read.
"""

import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from flc_udp.config import BLOCK_BYTES_MAX

LEAF = 13
"""A page that is a leaf of a table begins with this byte."""

LEAF_HEAD_BYTES = 8
COLUMNS = 8
WIDTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""How many bytes a number has, by its type in the file. From 12 on the type tells the length."""

PAYLOAD_BYTES_MAX = BLOCK_BYTES_MAX + 128
U16, U32 = struct.Struct(">H"), struct.Struct(">L")

NO_ROW = (IndexError, struct.error)


class BlockRow(NamedTuple):
    """A row of a block: where it is in the file, and its columns as they stand there."""

    at: int
    position: int
    log_no: Any
    room_no: Any
    hash: Any
    encoded: Any


class Pages:
    """The pages of an open file."""

    def __init__(self, file: int, page_bytes: int) -> None:
        self._file = file
        self._bytes = page_bytes
        self._count = os.fstat(file).st_size // page_bytes

    def rows(self) -> Iterator[BlockRow]:
        """All rows that may be those of blocks."""
        for number in range(self._count):
            page = self._page(number)
            if (page[0] ^ LEAF).bit_count() > 1:
                continue
            (count,) = U16.unpack_from(page, 3)
            for cell in range(min(count, (self._bytes - LEAF_HEAD_BYTES) // 2)):
                (offset,) = U16.unpack_from(page, LEAF_HEAD_BYTES + 2 * cell)
                row = self._row(page, number * self._bytes + offset)
                if row is not None:
                    yield row

    def encoded(self, at: int) -> bytes:
        """The block of a row that was found there."""
        row = self._row(self._page(at // self._bytes), at)
        assert row is not None, "the file does not change meanwhile"
        return bytes(row.encoded)

    def _page(self, number: int) -> bytes:
        return os.pread(self._file, self._bytes, number * self._bytes)

    def _row(self, page: bytes, at: int) -> BlockRow | None:
        try:
            size, offset = _number(page, at % self._bytes)
            position, offset = _number(page, offset)
            columns = _columns(self._payload(page, offset, size))
        except NO_ROW:
            return None
        if len(columns) != COLUMNS:
            return None
        signed = position - (position >> 63 << 64)
        return BlockRow(at, signed, columns[1], columns[5], columns[6], columns[7])

    def _payload(self, page: bytes, offset: int, size: int) -> bytes:
        """The bytes of a row. What has no place in the page is in a chain of further pages."""
        if size > PAYLOAD_BYTES_MAX:
            raise IndexError
        most, least = self._bytes - 35, (self._bytes - 12) * 32 // 255 - 23
        if size <= most:
            return page[offset : offset + size]
        here = least + (size - least) % (self._bytes - 4)
        here = here if here <= most else least
        payload = bytearray(page[offset : offset + here])
        (following,) = U32.unpack_from(page, offset + here)
        while len(payload) < size:
            page = self._page(following - 1) if following else b""
            (following,) = U32.unpack_from(page)
            payload += page[4 : 4 + size - len(payload)]
        return bytes(payload)


def _number(page: bytes, at: int) -> tuple[int, int]:
    """A number of up to nine bytes, and where the next one begins."""
    value = 0
    for end in range(at, at + 8):
        value = value << 7 | page[end] & 0x7F
        if page[end] < 0x80:  # noqa: PLR2004  # the last byte of a number
            return value, end + 1
    return value << 8 | page[at + 8], at + 9


def _columns(payload: bytes) -> list[int | bytes]:
    """The values of a row: numbers, and all else as bytes."""
    end, at = _number(payload, 0)
    kinds: list[int] = []
    while at < end and len(kinds) <= COLUMNS:
        kind, at = _number(payload, at)
        kinds.append(kind)
    values: list[int | bytes] = []
    for kind in kinds:
        width = (kind - 12) // 2 if kind >= 12 else WIDTHS[kind]  # noqa: PLR2004  # of text or bytes
        value = payload[at : at + width]
        values.append(value if kind >= 12 else int.from_bytes(value, signed=True) or int(kind == 9))  # noqa: PLR2004  # 9 is the number 1
        at += width
    return values
