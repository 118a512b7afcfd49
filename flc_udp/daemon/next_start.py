"""What lies in a data directory and would keep the next start from running.

A running node has its files open and its ring in memory, so it is well whatever becomes of their
names. Rules. Nothing is made or changed here. At a running node a look costs a few calls of the
system.
"""

import stat
from contextlib import suppress
from pathlib import Path

from flc_udp.model.errors import FlcError
from flc_udp.store.directory import CONTROL, DATABASE, KEYS, LOCK
from flc_udp.store.files import DatabaseFiles
from flc_udp.store.wal import check_wal
from flc_udp.wire.ring import read_ring

PLAIN = (LOCK, DATABASE, f"{DATABASE}-life")
"""These are plain files, and no links."""


def obstacle(directory: Path, *, is_down: bool = False) -> FlcError | None:
    """Why a start would be refused here, as far as the files themselves tell.

    The WAL is read only if no node runs here: this takes as long as a start does with it.
    """
    try:
        check_files(directory)
        if is_down:
            check_wal(directory / DATABASE)
        if (directory / KEYS).exists():
            read_ring(directory / KEYS)
    except FlcError as error:
        return error
    except OSError:  # Other looks at the directory tell that.
        return None
    return None


def check_files(directory: Path) -> None:
    """Raise FlcError if something else lies in the place of a file or of the control socket."""
    for name in PLAIN:
        with suppress(FileNotFoundError):
            _check_plain(directory / name)
    DatabaseFiles(directory / DATABASE).check_presence()
    control = directory / CONTROL
    if control.is_dir() and not control.is_symlink():
        raise FlcError(
            f"{control} is a directory, and the control socket has that name",
            "move it away: the node makes its socket itself",
        )


def _check_plain(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise FlcError(
            f"{path} is a link to {path.resolve()}",
            "two nodes could use one file: move the file itself here, or name its own directory "
            "with --data",
        )
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no plain file"
        raise FlcError(
            f"{path} is {kind}, and the node has a file of that name",
            "move it away, and the file back if it was moved: see `ls -l` there",
        )
