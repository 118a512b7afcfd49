"""Finds the daemon that a client command speaks to, and gives the command a connection to it."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from flc_udp.cli.conventions import SILENT, complain
from flc_udp.client import Client
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import user_directory

SOCKET = "control.sock"

PATIENCE_S = 10.0
"""A daemon that says nothing for this time is stuck: a turn takes milliseconds, on a busy machine
a second."""

ASK_S = 1.0
"""A daemon that says nothing for this time is asked for its status, to hear whether it lives."""

SYSTEM_DIRECTORY = Path("/run/flc")


def with_daemon(
    args: argparse.Namespace, use: Callable[[Client], Awaitable[int | None]]
) -> int | None:
    """Run `use` with a connection to the daemon of `args.data`; raises FlcError without one."""

    async def session() -> int | None:
        path = choose_socket(args.data, os.environ)
        try:
            async with asyncio.timeout(None) as patience, await Client.connect(path) as client:
                watching = asyncio.create_task(_watch(client, patience))
                try:
                    return await use(client)
                finally:
                    watching.cancel()
        except TimeoutError:
            if not patience.expired():
                raise
        problem = f"the daemon at {path} does not answer within {PATIENCE_S:g} s"
        complain(problem, "it is stopped or stuck: see its log, and run `flc doctor`")
        return SILENT

    return asyncio.run(session())


async def _watch(client: Client, patience: asyncio.Timeout) -> None:
    """End the patience if the daemon says nothing at all, not even when it is asked for its status.

    The question uses another connection, because a say on this one may wait for the disk or for
    other nodes.
    """
    await asyncio.sleep(ASK_S)
    if client.has_heard:
        return
    try:
        async with asyncio.timeout(PATIENCE_S - ASK_S), await Client.connect(client.path) as other:
            await other.status()
    except FlcError:
        return  # It refused, or it is gone: the command hears that, too.
    except TimeoutError:
        if not client.has_heard:
            client.abort()  # Closing it would wait until all is sent.
            patience.reschedule(asyncio.get_running_loop().time())


def choose_socket(data: str | None, environ: Mapping[str, str]) -> Path:
    """Return the first socket that exists; raises FlcError that names all possible places.

    It may be in a named directory, otherwise in the user's or in the system's.
    """
    named = data or environ.get("FLC_DATA")
    directories = [Path(named)] if named else [user_directory(environ), SYSTEM_DIRECTORY]
    places = [directory / SOCKET for directory in directories]
    for path in places:
        if _is_there(path):
            return path
    problem = f"no daemon here: there is no {' and no '.join(map(str, places))}"
    raise FlcError(problem, f"start one: flc run{f' --data {named}' if named else ''}")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, PermissionError)  # Connecting to it gives the right error.
    return True
