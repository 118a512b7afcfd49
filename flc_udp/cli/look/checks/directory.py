"""Checks of the data directory: who owns it, who else can read it, and who holds it now.

The checks take no lock, because that would stop a node that starts at the same moment.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flc_udp.cli.connect import SOCKET
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.model.errors import FlcError
from flc_udp.store.locks import Holder
from flc_udp.store.rights import (
    DIRECTORY_MODE,
    FILE_MODE,
    GROUPS_DIRECTORY_MODE,
    OTHERS,
    OWN_FILES,
    user_text,
)

DIRECTORY, FILES, HOLDER = "data directory", "its files", "its lock"
NEXT_START = "next start"
ROOT = 0
KEYS = "keys"
OWN = (*OWN_FILES, SOCKET)
"""The files of a node. Other files in the directory are not checked."""


class Entry(NamedTuple):
    """A file or directory with its rights."""

    path: str
    mode: int
    owner: int


def directory(path: Path) -> list[Verdict]:
    """Check the owner and the rights of the directory and its files."""
    try:
        found = entry(path)
        inside = list(entries(path))
    except FileNotFoundError:
        return [warn(DIRECTORY, f"{path} does not exist", f"flc run --data {path} creates it")]
    except OSError as error:
        advice = "run this as the user of the node, or name another directory with --data"
        return [fail(DIRECTORY, f"{path}: {error.strerror}", advice)]
    return [rights(found, os.geteuid()), rights_inside(inside, found)]


def entries(path: Path) -> Iterator[Entry]:
    """Read the rights of the node's files. Links are left out, and files that have just gone."""
    for name in OWN:
        with suppress(FileNotFoundError):
            if not (path / name).is_symlink():
                yield entry(path / name)


def entry(path: Path) -> Entry:
    """Read the rights of one file or directory."""
    status = path.stat()
    return Entry(str(path), stat.S_IMODE(status.st_mode), status.st_uid)


def rights(found: Entry, user: int) -> Verdict:
    """Judge the directory: only its owner may enter, because it holds keys and messages."""
    owner = user_text(found.owner)
    if user not in (found.owner, ROOT):
        problem = f"{found.path} belongs to {owner}, and you are {user_text(user)}"
        return fail(DIRECTORY, problem, f"run flc as {owner}, or chown it")
    # A group may pass to the socket (--control-group).
    if found.mode & OTHERS and found.mode != GROUPS_DIRECTORY_MODE:
        advice = f"chmod {DIRECTORY_MODE:o} {found.path}: it holds the keys and all messages"
        return fail(DIRECTORY, f"{found.path} is open to others, mode {found.mode:04o}", advice)
    return ok(DIRECTORY, f"{found.path} has mode {found.mode:04o} and belongs to {owner}")


def rights_inside(inside: list[Entry], above: Entry) -> Verdict:
    """Judge the files. In a directory that is closed to others only the mode of the keys counts."""
    if foreign := [found.path for found in inside if found.owner != above.owner]:
        owner, paths = user_text(above.owner), " ".join(foreign)
        found = f"these belong to another user than their directory: {', '.join(foreign)}"
        return fail(FILES, found, f"chown {owner} {paths}: did a node run as another user once?")
    # A group may use the socket (--control-group).
    private = {name for name in OWN if name != SOCKET} if above.mode & OTHERS else {KEYS}
    opened = [e.path for e in inside if e.mode & OTHERS and Path(e.path).name in private]
    if opened:
        advice = f"chmod {FILE_MODE:o} {' '.join(opened)}"
        return warn(FILES, f"these are open to others: {', '.join(opened)}", advice)
    return ok(FILES, f"only their owner can use these {len(inside)}")


def holder(held_by: Holder | None, problem: str, *, has_socket: bool) -> Verdict:
    """Compare the process that holds the directory with the control socket.

    `problem` says why nobody answers there, and is empty if somebody does.
    """
    if not problem:
        return ok(HOLDER, f"held by a running node{f', {held_by}' if held_by else ''}")
    if held_by is not None and not held_by.is_node:
        found = f"{held_by} has locked the directory and is no node, so none can start there"
        advice = "end it; a directory of mode 0700 can be locked by nobody else"
        return fail(HOLDER, found, advice)
    if held_by is not None:
        advice = f"is it stopped or starting? ps -o stat,etime,args {held_by.process}; see its log"
        return fail(HOLDER, f"{held_by} holds it, but {problem}", advice)
    if has_socket:
        found = f"nobody holds it, but there is an old {SOCKET}: the node did not end in order"
        says = "its log or the kernel's (out of memory?) says why"
        return warn(HOLDER, found, f"{says}; the next flc run deletes that file")
    return ok(HOLDER, "nobody holds it")


def next_start(obstacle: FlcError | None) -> Verdict:
    """Say whether a start would take what lies there. A running node does not meet it."""
    if obstacle is not None:
        return fail(NEXT_START, f"it would be refused: {obstacle}", obstacle.hint)
    return ok(NEXT_START, "its files and its ring of keys are as a node needs them")
