"""A disk that loses power: all that a store writes to real files is recorded, and cut anywhere.

SQLite is given file functions (a VFS) that do what its own do and note each write, truncation and
sync of the files in one directory. `Recording.after_cut` then tells what may be on the disk if the
power goes at a moment: what was synced, and of what was written since then, any sectors and any
size. A sector is as it was at some moment since the sync, so writes come in any order and are torn.
On a disk that lies, some syncs did nothing.

Nothing is synced in truth here, which makes it quick.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

from flc_udp.store import directory, files

OK = 0
METHODS = (
    "xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock",
    "xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics", "xShmMap",
    "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
)  # fmt: skip
OF_VFS = (
    "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose",
    "xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall",
    "xGetSystemCall", "xNextSystemCall",
)  # fmt: skip
"""The functions of a file, and of a VFS, in the order in which SQLite has them."""


class IoMethods(Structure):
    """`sqlite3_io_methods`, of version 3."""

    _fields_ = [("iVersion", c_int), *((name, c_void_p) for name in METHODS)]


class File(Structure):
    """`sqlite3_file`."""

    _fields_ = [("pMethods", POINTER(IoMethods))]


class Vfs(Structure):
    """`sqlite3_vfs`, of version 3."""

    _fields_ = [
        *(("iVersion", c_int), ("szOsFile", c_int), ("mxPathname", c_int), ("pNext", c_void_p)),
        *(("zName", c_char_p), ("pAppData", c_void_p)),
        *((name, c_void_p) for name in OF_VFS),
    ]


OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(File), c_int, POINTER(c_int))
DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class Op(NamedTuple):
    """What was done to a file: `write`, `truncate`, `sync`, `delete`, or `replace` by a new one."""

    kind: str
    """`names` syncs the directory: a name that was made, removed or given to another file."""
    name: str
    at: int = 0
    """Where something was written, or the new size."""
    data: bytes = b""


class Recording:
    """What was done in one directory since its files were as `before`, all durable."""

    def __init__(self, directory: Path, before: dict[str, bytes]) -> None:
        self.directory = directory
        self._before = before
        self.ops: list[Op] = []
        self.is_over = False

    def note(self, path: Path, kind: str, at: int = 0, data: bytes = b"") -> None:
        """Something was done to a file, here or elsewhere."""
        is_ours = path.parent == self.directory and not path.name.endswith("-shm")
        if is_ours and not self.is_over:
            self.ops.append(Op(kind, path.name, at, data))

    def note_names(self) -> None:
        """The directory was synced."""
        if not self.is_over:
            self.ops.append(Op("names", ""))

    def after_cut(
        self, end: int, chance: Random, lies: Callable[[int], bool] = lambda _: False
    ) -> dict[str, bytes]:
        """The files as they may be if the power goes after so many operations."""
        sector, content = chance.choice((512, 4_096)), dict(self._before)
        for name in dict.fromkeys([*self._before, *(op.name for op in self.ops[:end] if op.name)]):
            ops = enumerate(self.ops[:end])
            own = [(at, op) for at, op in ops if op.name == name or op.kind == "names"]
            left = _left(content.pop(name, None), own, sector, chance, lies)
            if left is not None:
                content[name] = left
        return content


Version = tuple[Op | None, bytes | None]
"""What a file held after an operation. None: there was no file."""


def _done(content: bytearray | None, op: Op) -> bytearray | None:
    """Do this to a file's content."""
    match op.kind:
        case "write":
            content = bytearray() if content is None else content
            content.extend(bytes(max(op.at - len(content), 0)))
            content[op.at : op.at + len(op.data)] = op.data
        case "truncate" if content is not None:
            del content[op.at :]
            content.extend(bytes(op.at - len(content)))
        case "delete":
            return None
        case "replace" | "create":
            return bytearray(op.data)
        case _:
            pass
    return content


def _left(
    before: bytes | None,
    ops: list[tuple[int, Op]],
    sector: int,
    chance: Random,
    lies: Callable[[int], bool],
) -> bytes | None:
    """What is left of one file."""
    synced = [n for n, (at, op) in enumerate(ops) if op.kind == "sync" and not lies(at)]
    first = synced[-1] if synced else -1
    content = None if before is None else bytearray(before)
    for _, op in ops[: first + 1]:
        content = _done(content, op)
    versions: list[Version] = [(None, None if content is None else bytes(content))]
    for at, op in ops[first + 1 :]:
        content = _done(content, op)
        if op.kind == "names" and not lies(at):
            versions = [
                version for version in versions if (version[1] is None) == (content is None)
            ]
        elif op.kind == "sync" and op.name.endswith("-life"):
            versions.append((Op("replace", op.name), b""))  # It has its name, and no content.
        elif op.kind not in ("names", "sync"):
            versions.append((op, None if content is None else bytes(content)))
    return _drawn(versions, sector, chance)


def _drawn(versions: list[Version], sector: int, chance: Random) -> bytes | None:
    """The oldest version or the newest one, one that is torn at its end, or a mixture."""
    match chance.randrange(4):
        case 0:
            return versions[0][1]
        case 1:
            return versions[-1][1]
        case 2:
            end = chance.randint(1, len(versions))
            versions = versions[max(end - 2, 0) : end]
            return _mixed(versions, len(versions) - 1, sector, chance)
        case _:
            return _mixed(versions, chance.randrange(len(versions)), sector, chance)


def _mixed(versions: list[Version], named: int, sector: int, chance: Random) -> bytes | None:
    """A file of whose size and name one version is on the disk, and of each sector one."""
    whole = versions[named][1]
    if whole is None:
        return None
    # What was cut off does not come back, and what is written behind a cut that did not reach the
    # disk lies in sectors that are not the file's yet.
    cuts = [at for at, (op, _) in enumerate(versions) if op is not None and op.kind != "write"]
    first = max((at for at in cuts if at <= named), default=0)
    last = min((at for at in cuts if at > named), default=len(versions))
    newest, left = chance.choice((0.1, 0.5, 0.9)), bytearray(whole)
    for at in range(0, len(left), sector):
        of = range(first, last)
        chosen = of[-1] if chance.random() < newest else chance.choice(of)
        part = (versions[chosen][1] or b"")[at : at + sector]
        length = min(sector, len(left) - at)
        left[at : at + length] = part[:length].ljust(length, b"\0")
    return bytes(left)


@contextmanager
def recorded(recording: Callable[[], Recording | None]) -> Iterator[None]:
    """While this lasts, SQLite's new connections and the store's side file note what they do."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = POINTER(Vfs)
    usual = library.sqlite3_vfs_find(None)
    vfs, held = Vfs.from_buffer_copy(usual.contents), _Functions(usual.contents, recording)
    vfs.zName, vfs.xOpen, vfs.xDelete = b"recorded", held.open, held.delete
    library.sqlite3_vfs_register(ctypes.byref(vfs), 1)
    write_whole = directory.write_whole

    def write_side_file(path: Path, text: str) -> None:
        write_whole(path, text)
        if (to := recording()) is not None:
            to.note(path, "replace", data=text.encode())
            to.note(path, "sync")
            to.note_names()

    try:
        with (
            mock.patch.object(files, "write_whole", write_side_file),
            mock.patch("os.fsync", return_value=None),
        ):
            yield
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(vfs))
        KEPT.append((vfs, held))


KEPT: list[Any] = []
"""What SQLite may still call: connections that are open end after the recording."""


class _Functions:
    """The functions that take the places of SQLite's own."""

    def __init__(self, usual: Vfs, recording: Callable[[], Recording | None]) -> None:
        self._recording = recording
        self._names: dict[int, Path] = {}
        """{address of an open file: its name}."""
        self._new: set[Path] = set()
        """Files whose names were never synced."""
        self._methods: dict[int, IoMethods] = {}
        self._usual_open, self._usual_delete = OPEN(usual.xOpen), DELETE(usual.xDelete)
        self._functions: list[Any] = []
        self.open = self._keep(OPEN(self._open))
        self.delete = self._keep(DELETE(self._delete))

    def _keep(self, function: ctypes._FuncPointer) -> int | None:
        self._functions.append(function)
        return ctypes.cast(function, c_void_p).value

    def _open(
        self, vfs: int, name: int | None, file: ctypes._Pointer[File], flags: int, out: object
    ) -> int:
        # The name goes on as an address: the file keeps it.
        path = Path(ctypes.string_at(name).decode()) if name else None
        is_new = path is not None and not path.exists()
        result: int = self._usual_open(vfs, name, file, flags, out)
        if result == OK and path is not None:
            self._names[ctypes.addressof(file.contents)] = path
            file.contents.pMethods = ctypes.pointer(self._recording_methods(file.contents.pMethods))
            if is_new:
                self._new.add(path)
                self._note(path, "create")
        return result

    def _delete(self, vfs: int, name: bytes, is_synced: int) -> int:
        result: int = self._usual_delete(vfs, name, is_synced)
        if result == OK:
            self._note(Path(name.decode()), "delete")
            if is_synced:
                self._note_names(Path(name.decode()))
        return result

    def _recording_methods(self, usual: ctypes._Pointer[IoMethods]) -> IoMethods:
        """The functions of one kind of file."""
        place = ctypes.addressof(usual.contents)
        if place in self._methods:
            return self._methods[place]
        methods = IoMethods.from_buffer_copy(usual.contents)
        usual_write, usual_truncate = WRITE(methods.xWrite), TRUNCATE(methods.xTruncate)

        def write(file: int, data: int, size: int, at: int) -> int:
            result: int = usual_write(file, data, size, at)
            if result == OK:
                self._note(self._names[file], "write", at, ctypes.string_at(data, size))
            return result

        def truncate(file: int, size: int) -> int:
            result: int = usual_truncate(file, size)
            if result == OK:
                self._note(self._names[file], "truncate", size)
            return result

        def sync(file: int, _flags: int) -> int:
            path = self._names[file]
            self._note(path, "sync")
            if path in self._new:  # So SQLite does with journals, of any kind.
                self._new.discard(path)
                self._note_names(path)
            return OK

        methods.xWrite = self._keep(WRITE(write))
        methods.xTruncate = self._keep(TRUNCATE(truncate))
        methods.xSync = self._keep(SYNC(sync))
        self._methods[place] = methods
        return methods

    def _note_names(self, path: Path) -> None:
        if (to := self._recording()) is not None and to.directory == path.parent:
            to.note_names()

    def _note(self, path: Path, kind: str, at: int = 0, data: bytes = b"") -> None:
        if (to := self._recording()) is not None:
            to.note(path, kind, at, data)


def is_possible() -> bool:
    """Whether this Python's SQLite lets its file functions be replaced."""
    try:
        return bool(ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_register)
    except (AttributeError, OSError):
        return False


def write_files(directory: Path, content: dict[str, bytes]) -> Path:
    """Make a data directory of these files; return where its database is."""
    directory.mkdir(mode=0o700)
    for name, data in content.items():
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    return directory / "flc.db"
