"""Which daemon a client command speaks to, and the one way it does."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from flc_udp.cli.complaint import complain
from flc_udp.client import Client
from flc_udp.model.errors import FlcError

SOCKET = "control.sock"
SILENT = 3
"""Exit code: a daemon is there and does not answer."""

PATIENCE_S = 10.0
"""So long a daemon may say nothing: a turn takes milliseconds, on a busy machine a second."""

ASK_S = 1.0
"""Before it is asked how it is, only to hear it."""

SYSTEM_DIRECTORY = Path("/run/flc")


def with_daemon(args: argparse.Namespace, use: Callable[[Client], Awaitable[int]]) -> int:
    """Run `use` with a connection to the daemon of `args.data`; FlcError if there is none."""

    async def session() -> int:
        path = choose_socket(args.data, os.environ)
        client = await _Client.connect(path)
        try:
            async with asyncio.timeout(None) as patience:
                watching = asyncio.create_task(_watch(client, patience))
                try:
                    return await use(client)
                finally:
                    watching.cancel()
                    await client.close()
        except TimeoutError:
            if not patience.expired():
                raise
        complain(
            f"the daemon at {path} does not answer, for {PATIENCE_S:g} s",
            "it is stopped or stuck: its log may say why, `flc doctor` what is wrong around it",
        )
        return SILENT

    return asyncio.run(session())


class _Client(Client):
    """One that knows whether it ever heard anything: a daemon that hangs takes connections, too."""

    has_heard = False

    def data_received(self, data: bytes) -> None:
        self.has_heard = True
        super().data_received(data)

    def abort(self) -> None:
        self._transport.abort()


async def _watch(client: _Client, patience: asyncio.Timeout) -> None:
    """End it where the daemon says nothing at all, though asked for what is told in a turn.

    Over another connection: a say may wait for the disk, or for others, and this one with it.
    """
    await asyncio.sleep(ASK_S)
    if client.has_heard:
        return
    try:
        async with asyncio.timeout(PATIENCE_S - ASK_S):
            async with await Client.connect(client.path) as other:
                await other.status()
    except FlcError:
        return  # It answered, or is gone, which whoever waits hears as well.
    except TimeoutError:
        if not client.has_heard:
            client.abort()  # Or to close it would wait until all is sent.
            patience.reschedule(asyncio.get_running_loop().time())


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
