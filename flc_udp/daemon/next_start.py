"""What lies in a data directory and would keep the next start from running.

A running node has its files open and its ring in memory, so it is well whatever becomes of their
names. Rules. Nothing is made or changed here. At a running node a look costs a few calls of the
system.
"""

from pathlib import Path

from flc_udp.model.errors import FlcError
from flc_udp.store.connections import snapshot
from flc_udp.store.directory import CONTROL, DATABASE, KEYS, LOCK
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.rights import check_plain
from flc_udp.store.way_out import way_out
from flc_udp.wire.ring import read_ring

PLAIN = (LOCK, DATABASE, *(f"{DATABASE}-{name}" for name in ("wal", "shm", "journal", "life")))
"""These are plain files, and no links."""


def obstacle(directory: Path, *, is_down: bool = False) -> FlcError | None:
    """Why a start would be refused here, as far as the files themselves tell.

    The WAL is read only if no node runs here: this takes as long as a start does with it.
    """
    try:
        check_files(directory)
        if is_down:
            _check_database(directory / DATABASE)
        if (directory / KEYS).exists():
            read_ring(directory / KEYS)
    except FlcError as error:
        return error
    except OSError as error:
        if is_down:
            return FlcError(
                f"{error.filename or directory}: {error.strerror}", way_out(directory, error)
            )
        return None  # Other looks at the directory tell that.
    return None


def _check_database(path: Path) -> None:
    """Raise FlcError or OSError if the database itself would not be taken."""
    DatabaseFiles(path).check_before_opening(make=False)
    if path.exists() and path.stat().st_size:
        with snapshot(path):
            pass


def check_files(directory: Path) -> None:
    """Raise FlcError if something else lies in the place of a file or of the control socket."""
    for name in PLAIN:
        check_plain(directory / name)
    DatabaseFiles(directory / DATABASE).check_presence()
    control = directory / CONTROL
    if control.is_dir() and not control.is_symlink():
        raise FlcError(
            f"{control} is a directory, and the control socket has that name",
            "move it away: the node makes its socket itself",
        )
