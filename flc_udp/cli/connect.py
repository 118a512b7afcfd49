"""Which daemon a client command speaks to, and the one way it does."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from flc_udp.client import Client
from flc_udp.model.errors import FlcError

SOCKET = "control.sock"
SYSTEM_DIRECTORY = Path("/run/flc")


def with_daemon(args: argparse.Namespace, use: Callable[[Client], Awaitable[int]]) -> int:
    """Run `use` with a connection to the daemon of `args.data`; FlcError if there is none."""

    async def session() -> int:
        path = choose_socket(args.data, os.environ)
        async with await Client.connect(path) as client:
            return await use(client)

    return asyncio.run(session())


def choose_socket(data: str | None, environ: Mapping[str, str]) -> Path:
    """The first socket that is there; raises FlcError naming all that were looked for."""
    looked_for = sockets(data, environ)
    for path in looked_for:
        if _is_there(path):
            return path
    named = data or environ.get("FLC_DATA")
    raise FlcError(
        f"no daemon here: there is no {' and no '.join(map(str, looked_for))}",
        f"start one: flc run{f' --data {named}' if named else ''}",
    )


def sockets(data: str | None, environ: Mapping[str, str]) -> list[Path]:
    """Where a daemon's socket may be: a named directory's, else the user's, then the system's."""
    named = data or environ.get("FLC_DATA")
    if named:
        return [Path(named) / SOCKET]
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG specification: a relative path is to be ignored
        state = Path("~/.local/state").expanduser()
    return [state / "flc" / SOCKET, SYSTEM_DIRECTORY / SOCKET]


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:
        return True  # to try it gives the right error
    except OSError:
        return False
    return True
