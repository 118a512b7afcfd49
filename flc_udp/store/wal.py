"""A WAL read without SQLite: whether more was committed than SQLite will read (walformat.html).

    header | frame | frame …      a frame: its page's number, the pages of the database if it ends a
                                  transaction, salts, sums over all up to here; then the page

Promise. What a power cut leaves is no damage, nor is what a running node writes meanwhile. Whatever
else has changed in the WAL before its last transaction is found.

Rules. SQLite reads up to the first frame whose sums are wrong, and takes all from there on for what
is left of a transaction that was never committed. But each transaction is synced before the next
one is written. So a whole one behind such a frame proves that those before it were committed. It is
whole if its frames have the salts of this WAL, and the sums of each follow from the frame before.
What stood there earlier, and was written over in part, has other salts or other sums.

A single bit that flipped is found by the sums, and set right unless another bit would explain them
as well. Otherwise the page is taken as it is: what has changed in it is the database's damage then.

A killed process leaves the WAL's index, too, which tells how many frames were committed. SQLite
makes it anew from what is there. So before that, it proves that a WAL was cut short or deleted
since, or overwritten. An index of another WAL that is older than the machine's last start proves
nothing, because a power cut may have left it.

Of the last transaction there is no such proof. It counts as committed if a single bit explains all
that is wrong with it: no power cut leaves that. If more has changed in it, it is taken for what a
power cut left.
"""

import os
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import islice, pairwise, takewhile
from operator import attrgetter, eq
from pathlib import Path
from statistics import mode
from typing import BinaryIO, Literal, NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.store.rights import check_plain
from flc_udp.store.way_out import way_out

HEADER, FRAME = struct.Struct(">LLL4x8sLL"), struct.Struct(">LL8sLL")
INDEX, INDEX_HEADER = struct.Struct("=48s48sI"), struct.Struct("=12x?3xII8x8s8x")
"""How the WAL's index begins: its header twice, and how many frames are folded in; and the header:
whether it was written, the committed frames, the pages of the database, and the salts."""

SUMMED_HEADER_BYTES, SUMMED_FRAME = 24, struct.Struct(">LL")
"""The sums are over so much of the header, and over the beginning and the page of each frame."""

MAGIC, VERSION = 0x377F0682, 3_007_000
"""How a WAL begins. The magic number is one more if the sums are those of big-endian words."""

PAGE_BYTES = 4_096
"""SQLite makes pages of this size, unless it is asked for another one, which flc never does."""

PAGES_MAX = 1 << 23
"""No log has so many pages, so whatever says so is wrong."""

MASK = (1 << 32) - 1

Sums = tuple[int, int]


class Frame(NamedTuple):
    """A frame, as far as it could be set right."""

    places: tuple[int, ...]
    """The number of its page. There are two if its sums leave open whether it has changed."""
    pages: int
    """So many the database has, if this ends a transaction."""
    content: bytes
    is_sound: bool
    """Whether nothing had to be set right, and its sums follow from the frame before."""
    is_proven: bool
    """Whether it is sound, or one bit alone explains why it is not."""


class Damage(NamedTuple):
    """What SQLite does not read of a WAL, or does not fold in."""

    commits: int
    """So many are not read."""
    frames: int
    """So many frames has the WAL up to the last commit that is proven."""
    pages: int
    """So many pages has the database then."""
    lost: int = 0
    """So many frames that were committed are not there any more."""

    @property
    def words(self) -> str:
        """What is to be said of the WAL."""
        if self.lost:
            verb = "committed frame of it is" if self.lost == 1 else "committed frames of it are"
            return f"was cut short, deleted or overwritten: {self.lost} {verb} gone"
        if not self.commits:
            return "cannot be folded in: the database is cut short, and lacks pages"
        verb = "commit in it is" if self.commits == 1 else "commits in it are"
        return f"has changed on the disk: {self.commits} {verb} not read by SQLite"


class Wal:
    """An open WAL."""

    def __init__(self, file: int) -> None:
        self._file = file
        header = os.pread(file, HEADER.size, 0).ljust(HEADER.size, b"\0")
        magic, version, self.page_bytes, self.salts, *told = HEADER.unpack(header)
        self._order: Literal["big", "little"] = sys.byteorder
        if magic in (MAGIC, MAGIC + 1):
            self._order = "big" if magic & 1 else "little"
        stored, found = (told[0], told[1]), self._sums(header[:SUMMED_HEADER_BYTES], (0, 0))
        self.is_sound = magic in (MAGIC, MAGIC + 1) and version == VERSION and stored == found
        self._starts = [stored] if self.is_sound else [stored, found]
        if not self.is_sound:
            self.page_bytes = PAGE_BYTES
            self.salts = self._first_salts()

    def _first_salts(self) -> bytes:
        """The salts of the first two frames of which one follows from the other.

        A WAL is written from its beginning, so those of an earlier one stand behind.
        """
        for one, two in pairwise(self._raw()):
            _, _, salts, *before = FRAME.unpack_from(one)
            _, _, its, *told = FRAME.unpack_from(two)
            if salts == its != bytes(8):
                summed = two[: SUMMED_FRAME.size] + two[FRAME.size :]
                if self._sums(summed, (before[0], before[1])) == (told[0], told[1]):
                    return bytes(salts)
        first = [bytes(FRAME.unpack_from(raw)[2]) for raw in islice(self._raw(), 3)]
        return mode(first or [b""])

    def _raw(self) -> Iterator[bytes]:
        size = FRAME.size + self.page_bytes
        at = HEADER.size
        while len(raw := os.pread(self._file, size, at)) == size:
            yield raw
            at += size

    def told(self) -> list[int]:
        """What each frame with the salts of this WAL says of the pages of the database."""
        numbers = [FRAME.unpack_from(raw) for raw in self._raw()]
        return [pages for _, pages, salts, *_ in numbers if salts == self.salts]

    def frames(self) -> Iterator[Frame]:
        """All frames, also what is left of earlier transactions."""
        starts, is_sound = self._starts, True
        for raw in self._raw():
            page, pages, salts, *told = FRAME.unpack_from(raw)
            stored, is_ours = (told[0], told[1]), salts == self.salts
            summed = raw[: SUMMED_FRAME.size] + raw[FRAME.size :]
            # Of those that are left over only the first can be one of ours with wrong salts.
            found = [self._sums(summed, start) for start in starts] if is_ours or is_sound else []
            is_sound = is_ours and stored in found and page > 0
            readings, is_proven = [summed], is_sound or self._is_bit_of_head(salts, stored, found)
            if is_ours and len(found) == 1 and not is_sound:
                readings, is_explained = self._readings(summed, found[0], stored)
                is_proven |= is_explained
            numbers = [SUMMED_FRAME.unpack_from(reading) for reading in readings]
            # Either may have changed: what the sums are of, or the sums.
            starts = [stored] if is_sound else [stored, *found[:1]]
            places = tuple(dict.fromkeys(page for page, _ in numbers))
            pages = max(pages for _, pages in numbers)
            yield Frame(places, pages, readings[0][SUMMED_FRAME.size :], is_sound, is_proven)

    def _is_bit_of_head(self, salts: bytes, stored: Sums, found: list[Sums]) -> bool:
        """Whether nothing is wrong with a frame but one bit of its salts or its sums."""
        other_salts = int.from_bytes(salts) ^ int.from_bytes(self.salts)
        return any(
            sum(map(int.bit_count, (other_salts, low ^ stored[0], high ^ stored[1]))) == 1
            for low, high in found
        )

    def _words(self, content: bytes) -> "array[int]":
        words = array("I", content)
        if self._order != sys.byteorder:
            words.byteswap()
        return words

    def _sums(self, content: bytes, start: Sums) -> Sums:
        words = iter(self._words(content))
        low, high = start
        for one, two in zip(words, words, strict=True):
            low = low + one + high & MASK
            high = high + two + low & MASK
        return low, high

    def _readings(self, summed: bytes, found: Sums, stored: Sums) -> tuple[list[bytes], bool]:
        """What was there, if one bit alone explains the sums; else what is there.

        If several do, so does a bit of the numbers at the beginning, perhaps; that comes second.
        The second value is whether any does.
        """
        words = self._words(summed)
        # What is added to a word is in the sums as often as a Fibonacci number tells.
        often = _fibonacci(len(words))
        low, high = stored[0] - found[0], stored[1] - found[1]
        bits = [
            (at, 1 << bit)
            for at, (word, in_high, in_low) in enumerate(zip(words, often, often[1:], strict=False))
            for bit in range(32)
            for change in (-(1 << bit) if word >> bit & 1 else 1 << bit,)
            if not (in_high * change - high & MASK or in_low * change - low & MASK)
        ]
        in_numbers = [(at, bit) for at, bit in bits if at < SUMMED_FRAME.size // words.itemsize]
        if in_numbers and not _is_plausible(*SUMMED_FRAME.unpack_from(summed)):
            bits = in_numbers
        readings = [] if len(bits) == 1 else [summed]
        for at, bit in bits if len(bits) == 1 else in_numbers:
            words[at] ^= bit
            reading = array("I", words)
            words[at] ^= bit
            if self._order != sys.byteorder:
                reading.byteswap()
            if _is_plausible(*SUMMED_FRAME.unpack_from(reading)):
                readings.append(reading.tobytes())
        return readings or [summed], bool(bits)


@cache
def _fibonacci(count: int) -> list[int]:
    """So many Fibonacci numbers as the sums have them, the greatest first, and then 0."""
    numbers = [0, 1]
    while len(numbers) <= count:
        numbers.append(numbers[-1] + numbers[-2] & MASK)
    return numbers[::-1]


def _is_plausible(page: int, pages: int) -> bool:
    return 0 < page <= PAGES_MAX and pages <= PAGES_MAX


def find_damage(database: Path) -> Damage | None:
    """What SQLite will not read of a database's WAL, though it was committed.

    Raises OSError, and FlcError if there is something else in its place.
    """
    check_plain(wal_of(database))
    with suppress(FileNotFoundError), wal_of(database).open("rb") as file:
        before = os.fstat(file.fileno())
        # Twice, because what is written within a tick of the clock does not show in the time.
        found = _found(database, file.fileno()) and _found(database, file.fileno())
        after = os.fstat(file.fileno())
        # What changed meanwhile was not read as it was at any moment, and has a running node.
        is_same = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        return found if is_same else None
    return None


def _found(database: Path, wal: int) -> Damage | None:
    return _damage(Wal(wal)) or _lacking(Wal(wal), database.stat().st_size)


def _lacking(wal: Wal, size_bytes: int) -> Damage | None:
    """What was committed, if the database lacks pages that it has then: its disk lost them."""
    held = size_bytes // wal.page_bytes
    if held >= max(wal.told(), default=0):  # This is quick, and nearly always enough.
        return None
    committed = _committed(wal)
    if committed is None:
        return None
    brought = {frame.places[0] for frame in islice(wal.frames(), committed.frames)}
    return None if brought.issuperset(range(held + 1, committed.pages + 1)) else committed


def _damage(wal: Wal) -> Damage | None:
    damage, commits = None, 0
    is_read, is_whole, is_proven = wal.is_sound, True, True
    for number, frame in enumerate(wal.frames(), 1):
        is_read &= frame.is_sound
        is_whole &= frame.is_sound
        is_proven &= frame.is_proven
        if frame.pages:
            commits += not is_read
            if (is_whole or is_proven) and not is_read:
                damage = Damage(commits, number, frame.pages)
            is_whole = is_proven = True
    return damage


def find_committed(database: Path) -> Damage | None:
    """What SQLite reads of a database's WAL; raises OSError. None: there is nothing."""
    with suppress(FileNotFoundError), wal_of(database).open("rb") as file:
        return _committed(Wal(file.fileno()))
    return None


def _committed(wal: Wal) -> Damage | None:
    committed = None
    frames = takewhile(attrgetter("is_sound"), wal.frames() if wal.is_sound else ())
    for number, frame in enumerate(frames, 1):
        if frame.pages:
            committed = Damage(0, number, frame.pages)
    return committed


def find_cut(database: Path) -> Damage | None:
    """What the WAL's index proves to be gone from a database's WAL; raises OSError.

    Nobody in this process may have the database open: closing a file of it drops the locks on it.
    """
    check_plain(wal_of(database))
    check_plain(_index_of(database))
    found = _cut(database)
    return found and _cut(database)  # A node that writes meanwhile makes the two differ.


def _cut(database: Path) -> Damage | None:
    try:
        with _index_of(database).open("rb") as file:
            raw, written_s = file.read(INDEX.size), os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, PermissionError):  # Nobody who may not read it opens the database.
        return None
    if len(raw) < INDEX.size:
        return None
    header, again, folded_in = INDEX.unpack(raw)
    is_whole, frames, pages, salts = INDEX_HEADER.unpack(header)
    if header != again or not is_whole or frames <= folded_in:
        return None
    try:
        with wal_of(database).open("rb") as file:
            wal = Wal(file.fileno())
            is_of_it = wal.is_sound and wal.salts == salts
            committed = _committed(wal) if is_of_it else None
            held = committed.frames if committed else 0
    except PermissionError:
        return None
    except FileNotFoundError:
        held, is_of_it = 0, False
    # Else it may be what a power cut left of an earlier index.
    is_of_now = written_s > time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    if held >= frames or not (is_of_it or is_of_now):
        return None
    return Damage(0, held, pages, frames - held)


def check_wal(database: Path) -> None:
    """Raise FlcError if SQLite would lose what is committed in a database's WAL.

    Nobody in this process has the database open.
    """
    try:
        damage = find_damage(database) or find_cut(database)
    except OSError as error:
        problem = f"{error.filename or wal_of(database)} cannot be read: {error.strerror}"
        raise FlcError(problem, way_out(database.absolute().parent, error)) from error
    if damage is not None:
        repair = f"`flc fsck --repair --data {database.parent}`"
        hint = f"{repair} reads them, after a copy"
        if damage.lost:
            hint = f"put it back; else {repair} keeps what is there, and members give the rest"
        raise FlcError(f"{wal_of(database)} {damage.words}", hint)


def wal_of(database: Path) -> Path:
    """The WAL of a database."""
    return database.with_name(f"{database.name}-wal")


def _index_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-shm")


def fold_in(database: Path, damage: Damage) -> None:
    """Write all that was committed into the database, and empty the WAL; raises OSError.

    Nobody has the two open. This may end at any moment and be done again.
    """
    with wal_of(database).open("rb") as file, database.open("r+b") as target:
        wal = Wal(file.fileno())
        for frame in islice(wal.frames(), damage.frames):
            page = max(frame.places, key=partial(_likeness, target, frame.content))
            if 0 < page <= damage.pages:
                target.seek((page - 1) * wal.page_bytes)
                target.write(frame.content)
        target.truncate(damage.pages * wal.page_bytes)
        target.flush()
        os.fsync(target.fileno())
    os.truncate(wal_of(database), 0)


def _likeness(file: BinaryIO, content: bytes, page: int) -> int:
    """How many bytes of a page stand in a file already."""
    file.seek(max(page - 1, 0) * len(content))
    return sum(map(eq, file.read(len(content)), content))
