"""Who holds a data directory, as far as the kernel tells it (`/proc/locks`, see proc(5)).

A node locks the directory and the file `lock` in it. Whoever may list a directory may lock it, too,
and then no node can start there.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flc_udp.store.rights import user_text

LOCKS = Path("/proc/locks")
PROCESSES = Path("/proc")


class Holder(NamedTuple):
    """A process that has locked a data directory."""

    process: int
    is_node: bool
    """Whether it has also locked the file that only a node locks."""

    def __str__(self) -> str:
        return process_text(self.process)


def holder_of(directory: Path) -> Holder | None:
    """The process that holds a data directory. None: nobody does, or nobody who is seen from here.

    Raises OSError.
    """
    locks, nodes = read_locks(), list[int]()
    with suppress(FileNotFoundError):
        nodes = lock_holders(locks, (directory / "lock").stat())
    others = lock_holders(locks, directory.stat())
    return next((Holder(process, process in nodes) for process in nodes + others), None)


def read_locks() -> str:
    """The locks of this machine, "" where they are not told, as outside Linux."""
    with suppress(OSError):
        return LOCKS.read_text()
    return ""


def lock_holders(locks: str, file: os.stat_result) -> list[int]:
    """The processes that hold a lock of flock(2) on a file. Those of other containers are left out.

    `locks` is the text of /proc/locks. On btrfs the device there differs from the one in stat(2),
    so it counts only where one is equal.
    """
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    fields = [line.split() for line in locks.splitlines()]
    found = [
        (int(words[4]), words[5].rpartition(":")[0])
        for words in fields
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(file.st_ino)
    ]
    same = [process for process, where in found if where == device]
    return [process for process in same or [process for process, _ in found] if process > 0]


def process_text(process: int) -> str:
    """A process with its program and user, as far as they can be seen."""
    told, program = f"process {process}", ""
    with suppress(OSError, UnicodeDecodeError):
        program = (PROCESSES / str(process) / "comm").read_text().strip()
        owner = (PROCESSES / str(process)).stat().st_uid
        told += f" ({program}) of {user_text(owner)}"
    return told
