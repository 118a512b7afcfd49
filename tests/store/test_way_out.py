"""Why a data directory cannot be used: the hint goes by what is found there, and is a way out."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from flc_udp.store import locks as locks_module
from flc_udp.store.locks import Holder, holder_of, lock_holders
from flc_udp.store.rights import open_to_others, user_text
from flc_udp.store.way_out import way_out

DENIED = PermissionError(errno.EACCES, "Permission denied")
UNABLE = sqlite3.OperationalError("unable to open database file")
STRANGER = 4_000_123
"""A user that no machine has."""

Patch = pytest.MonkeyPatch


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory with a log."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    (path / "flc.db").touch(mode=0o600)
    return path


def closed(patch: Patch, *paths: Path) -> None:
    """Nobody may use these, as this user may not where root does."""
    may = os.access

    def access(path: Path, mode: int, *, effective_ids: bool = False) -> bool:
        return path not in paths and may(path, mode, effective_ids=effective_ids)

    patch.setattr(os, "access", access)
    patch.setattr(os, "supports_effective_ids", {access})


@pytest.mark.parametrize("name", [".", "flc.db", "flc.db-wal", "flc.db-shm", "keys", "lock"])
@pytest.mark.parametrize("error", [DENIED, UNABLE])
def test_what_belongs_to_another_user_is_named(
    home: Path, monkeypatch: Patch, name: str, error: Exception
) -> None:
    """With its owner, with who runs flc, and with both ways out."""
    if name != ".":
        (home / name).touch()
    closed(monkeypatch, home / name)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    hint = way_out(home, error)

    assert hint.startswith(f"{home / name} belongs to {user_text(os.getuid())}, ")
    assert f"flc runs as uid {STRANGER}" in hint
    assert f"`chown -R {STRANGER} {home}`" in hint
    assert "--data" in hint


def test_a_directory_above_is_not_to_be_given_away(home: Path, monkeypatch: Patch) -> None:
    """It may be that of the whole machine: the new one in it is."""
    closed(monkeypatch, home)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    hint = way_out(home / "new" / "er", DENIED)

    assert hint.startswith(f"{home} belongs to {user_text(os.getuid())}, ")
    assert "chown -R" not in hint
    assert f"make {home / 'new' / 'er'} as that user and `chown {STRANGER}` it" in hint


def test_an_own_file_without_rights_is_named_with_its_mode(home: Path, monkeypatch: Patch) -> None:
    """A chmod is all that it takes."""
    (home / "flc.db").chmod(0o400)
    closed(monkeypatch, home / "flc.db")

    hint = way_out(home, UNABLE)
    assert hint.startswith(f"{home}/flc.db has mode 0400: `chmod u+rwX {home}/flc.db`, or ")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({"f_flag": os.ST_RDONLY}, "read-only"),
        ({"f_bavail": 0}, "df -h"),
        ({"f_favail": 0}, "df -i"),
    ],
    ids=["read-only", "full", "no inodes"],
)
def test_a_disk_that_takes_nothing_is_named(
    home: Path, monkeypatch: Patch, found: dict[str, int], word: str
) -> None:
    """Whatever SQLite makes of it, and whoever the files belong to."""
    disk = {"f_flag": 0, "f_bavail": 9, "f_favail": 9, "f_files": 99} | found
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**disk))
    for error in (UNABLE, sqlite3.OperationalError("disk I/O error"), DENIED):
        assert word in way_out(home, error)


def locked(path: Path) -> Exception:
    """What SQLite reports where another program has the database locked."""
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path, timeout=0)) as other:
        one.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as refused:
            other.execute("BEGIN IMMEDIATE")
    return refused.value


def full(path: Path) -> Exception:
    """What SQLite reports where a quota is used up, though the disk has room."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as refused:
            connection.execute("CREATE TABLE t (x)")
    return refused.value


@pytest.mark.parametrize(
    ("fail", "word"),
    [
        (locked, "fuser"),
        (full, "make room"),
        (lambda _: OSError(errno.EDQUOT, "Disk quota exceeded"), "make room"),
        (lambda _: OSError(errno.EIO, "Input/output error"), "dmesg"),
        (lambda _: DENIED, "sandbox"),
    ],
    ids=["locked", "full", "quota", "broken", "forbidden"],
)
def test_the_error_decides_where_nothing_is_found(
    home: Path, fail: Callable[[Path], Exception], word: str
) -> None:
    """A lock, a quota, a broken disk, and what a sandbox forbids."""
    assert word in way_out(home, fail(home / "flc.db"))


@pytest.mark.parametrize("place", [".", "below"])
def test_a_file_in_the_place_of_a_directory_is_named(home: Path, place: str) -> None:
    """Or in the place of one above it."""
    hint = way_out(home / "flc.db" / place, NotADirectoryError(errno.ENOTDIR, "Not a directory"))
    assert hint.startswith(f"{home}/flc.db is a file")


# --- Who has locked it ----------------------------------------------------------------------------

LOCKS = """\
1: POSIX  ADVISORY  WRITE 27463 fe:00:2253383 0 EOF
2: FLOCK  ADVISORY  WRITE 27463 fe:00:2253384 0 EOF
2: -> FLOCK  ADVISORY  WRITE 27464 fe:00:2253384 0 EOF
3: FLOCK  ADVISORY  READ 27465 fe:00:2253385 0 EOF
4: FLOCK  ADVISORY  WRITE 27466 fe:01:2253385 0 EOF
5: FLOCK  ADVISORY  WRITE 0 fe:00:2253386 0 EOF
"""


def file(inode: int, device: int = os.makedev(0xFE, 0)) -> os.stat_result:
    """A file with this number."""
    return os.stat_result((0o100600, inode, device, 1, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "holders"),
    [
        (file(2253384), [27463]),
        (file(2253383), []),
        (file(2253385), [27465]),
        (file(2253385, os.makedev(0, 51)), [27465, 27466]),
        (file(2253386), []),
        (file(1), []),
    ],
    ids=["a node", "no flock", "shared", "btrfs", "in a container", "nobody"],
)
def test_whose_lock_it_is(found: os.stat_result, holders: list[int]) -> None:
    """Who merely waits for a lock does not hold it, and a lock of another kind is none."""
    assert lock_holders(LOCKS, found) == holders


@pytest.fixture
def kernel(home: Path, monkeypatch: Patch) -> Iterator[Callable[..., None]]:
    """Lets the kernel tell of locks of these processes, on the directory and on its `lock`."""
    (home / "lock").touch()

    def tell(*, directory: tuple[int, ...] = (), lock: tuple[int, ...] = ()) -> None:
        lines = [(process, home.stat()) for process in directory]
        lines += [(process, (home / "lock").stat()) for process in lock]
        text = "".join(
            f"{at}: FLOCK  ADVISORY  WRITE {process} 00:00:{found.st_ino} 0 EOF\n"
            for at, (process, found) in enumerate(lines)
        )
        monkeypatch.setattr(locks_module, "read_locks", lambda: text)

    return tell


@pytest.mark.parametrize(
    ("directory", "lock", "holder"),
    [
        ((7,), (7,), Holder(7, is_node=True)),
        ((), (7,), Holder(7, is_node=True)),
        ((8,), (), Holder(8, is_node=False)),
        ((), (), None),
    ],
    ids=["a node", "a file system without locks of directories", "a stranger", "nobody"],
)
def test_a_node_locks_the_file_too(
    home: Path,
    kernel: Callable[..., None],
    directory: tuple[int, ...],
    lock: tuple[int, ...],
    holder: Holder | None,
) -> None:
    """Who has locked the directory alone is no node, and stops each of them."""
    kernel(directory=directory, lock=lock)
    assert holder_of(home) == holder


def test_a_process_is_told_with_its_program_and_user() -> None:
    """As far as it can be seen."""
    mine, gone = str(Holder(os.getpid(), is_node=True)), str(Holder(1 << 30, is_node=True))
    assert mine.startswith(f"process {os.getpid()} (")
    assert mine.endswith(f" of {user_text(os.getuid())}")
    assert gone == f"process {1 << 30}"


# --- Whom it is open to ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "key_mode", "told"),
    [
        (0o700, 0o600, []),
        (0o710, 0o640, []),
        (0o755, 0o600, ["data"]),
        (0o750, 0o644, ["data", "key"]),
        (0o700, 0o660, ["key"]),
    ],
)
def test_what_is_open_to_others_is_told(
    home: Path, mode: int, key_mode: int, told: list[str]
) -> None:
    """With its mode, and what closes it. The socket's group may pass, and a group may read keys."""
    key = home.parent / "key"
    key.touch()
    key.chmod(key_mode)
    home.chmod(mode)
    found = list(open_to_others(home, str(key)))

    assert [path.name for path, _, _ in found] == told
    assert all(text == f"{path.stat().st_mode & 0o777:04o}" for path, text, _ in found)
    assert all(hint.startswith("`chmod ") for _, _, hint in found)
    assert [path.name for path, _, _ in open_to_others(home, "")] == told[: told.count("data")]
