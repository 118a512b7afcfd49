"""`flc doctor`: checks what commonly goes wrong, and says what to do about it.

It changes nothing. The node here need not run; if it does, the doctor asks its control socket. With
an address, it also tries the way to that peer, with the node's key and cluster or with given ones.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flc_udp.cli.connect import SOCKET, choose_socket
from flc_udp.cli.conventions import DONE, FAILED
from flc_udp.cli.look.checks import directory, machine, node, peer
from flc_udp.cli.look.checks.verdict import FAIL, Verdict, verdict_text
from flc_udp.cli.text import json_line
from flc_udp.client import Client, Record
from flc_udp.config import Settings
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import default_directory
from flc_udp.store.locks import holder_of
from flc_udp.wire.ring import read_ring
from flc_udp.wire.seal import Keyring, keyring, read_keys

PATIENCE_S = 5.0
"""The doctor waits this long for the node here, which needs a turn or two to answer."""


class Met(NamedTuple):
    """What the node here answered, or the problem if it did not answer."""

    status: Record | None = None
    members: Sequence[Record] = ()
    newest: Record | None = None
    problem: str = ""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc doctor [HOST:PORT]`."""
    flag = parser.add_argument
    flag("address", metavar="HOST:PORT", nargs="?", help="a peer: check the way there, too")
    flag("--key-file", metavar="FILE", help="the cluster's keys (default: the node's)")
    name = "the cluster's name (default: the node's, else flc)"
    flag("--cluster", metavar="NAME", help=name)


def doctor(args: argparse.Namespace) -> int:
    """Print each check as it is done; exit 1 if any failed."""
    code = DONE
    for verdict in verdicts(args):
        line = json_line(verdict._asdict()).decode() if args.json else verdict_text(verdict)
        print(line, flush=True)
        code = FAILED if verdict.level == FAIL else code
    return code


def verdicts(args: argparse.Namespace) -> Iterator[Verdict]:
    """Make all checks, the basic ones first: the first failure often explains the others."""
    from flc_udp.daemon import settings
    from flc_udp.daemon.next_start import obstacle

    here = settings.load(None, os.environ, {})
    data = data_directory(args.data)
    met = asyncio.run(meet(data / SOCKET))
    ring = peers_ring(args, data, met, here) if args.address is not None else None
    yield from machine.versions()
    # Its socket has the port of its address, unless it advertises another one.
    port = split_host_port(met.status["node"]["address"])[1] if met.status else None
    yield from machine.kernel(port)
    yield from directory.directory(data)
    if os.access(data, os.X_OK):
        has_socket = os.path.lexists(data / SOCKET)
        yield directory.holder(holder_of(data), met.problem, has_socket=has_socket)
        if os.access(data, os.W_OK):  # Others may not read all of it.
            yield directory.next_start(obstacle(data, is_down=met.status is None))
        yield from machine.disk(data, here.disk_free_bytes_min)
    if met.status is not None:
        yield from node.node(met.status, met.members, met.newest, datetime.now(UTC))
    if ring is not None:
        yield from peer.peer(args.address, ring, here.packet_bytes_max, met.members)


def data_directory(data: str | None) -> Path:
    """Find the directory of the daemon here; if none runs, the one that `flc run` would take."""
    try:
        return choose_socket(data, os.environ).parent
    except FlcError:
        return Path(data) if data else default_directory()


async def meet(path: Path) -> Met:
    """Ask the node behind the socket at `path`, if it answers."""
    try:
        async with asyncio.timeout(PATIENCE_S), await Client.connect(path) as client:
            status, members = await client.status(), await client.members()
            newest = [message async for message in client.log(n=1)]
    except FlcError as error:
        return Met(problem=str(error))
    except TimeoutError:
        return Met(problem=f"nothing answers at {path} within {PATIENCE_S:.0f} s")
    return Met(status, members, newest[0]["item"] if newest else None)


def peers_ring(args: argparse.Namespace, data: Path, met: Met, here: Settings) -> Keyring:
    """Return the keys and cluster to probe with: those that were given, or the node's own."""
    keys: tuple[bytes, ...] = ()
    if args.key_file:
        keys = read_keys(Path(args.key_file))
    elif os.access(own := data / "keys", os.R_OK):
        keys = read_ring(own).sources
    own_cluster = met.status["node"].get("cluster") if met.status else None
    return keyring(keys, args.cluster or own_cluster or here.cluster)
