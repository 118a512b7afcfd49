"""`flc doctor`: what commonly goes wrong, looked at one by one, and what to do about it.

Nothing is changed by it. A node need not run; of one that does, its control socket is asked. With
an address, the way to that peer is tried under the key and cluster of the node here, or as said.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flc_udp.cli.connect import SOCKET, choose_socket
from flc_udp.cli.look.checks.directory import directory, holder, holder_of
from flc_udp.cli.look.checks.disk import disk
from flc_udp.cli.look.checks.kernel import kernel
from flc_udp.cli.look.checks.node import node
from flc_udp.cli.look.checks.peer import peer
from flc_udp.cli.look.checks.verdict import FAIL, Verdict, verdict_record, verdict_text
from flc_udp.cli.look.checks.versions import versions
from flc_udp.client import Client, Record, compact
from flc_udp.config import Settings
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import default_directory
from flc_udp.wire.ring import read_ring
from flc_udp.wire.seal import Keyring, keyring, read_keys

PATIENCE_S = 5.0
"""A node that runs answers in a turn or two."""


class Met(NamedTuple):
    """What the node here answered, or the problem where none did."""

    status: Record | None = None
    members: tuple[Record, ...] = ()
    newest: Record | None = None
    problem: str = ""

    @property
    def port(self) -> int | None:
        """The port of its address, which is the socket's unless it advertises another."""
        return split_host_port(self.status["node"]["address"])[1] if self.status else None


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """`flc doctor [HOST:PORT]`."""
    parser.add_argument(
        "address", metavar="HOST:PORT", nargs="?", help="a peer: try the way there, too"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", help="the cluster's keys (default: the node's)"
    )
    parser.add_argument(
        "--cluster", metavar="NAME", help="the cluster's name (default: the node's, else flc)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a check")


def doctor(args: argparse.Namespace) -> int:
    """Print each check as it is done; exit 1 if any failed."""
    failed = False
    for verdict in verdicts(args):
        failed |= verdict.level == FAIL
        shown = compact(verdict_record(verdict)) if args.json else verdict_text(verdict)
        print(shown, flush=True)
    return int(failed)


def verdicts(args: argparse.Namespace) -> Iterator[Verdict]:
    """All checks, from the ground upwards: what fails first often explains the rest."""
    from flc_udp.daemon import settings

    here = settings.load(None, os.environ, {})
    data = data_directory(args.data)
    met = asyncio.run(meet(data / SOCKET))
    ring = peers_ring(args, data, met, here) if args.address is not None else None
    yield from versions()
    yield from kernel(met.port)
    yield from directory(data)
    if os.access(data, os.X_OK):
        has_socket = os.path.lexists(data / SOCKET)
        yield holder(holder_of(data), met.problem, has_socket=has_socket)
        yield from disk(data, here.disk_free_bytes_min)
    if met.status is not None:
        yield from node(met.status, list(met.members), met.newest, datetime.now(UTC))
    if ring is not None:
        yield from peer(args.address, ring, here.packet_bytes_max, list(met.members))


def data_directory(data: str | None) -> Path:
    """The directory that the commands' daemon has; if none runs, the one `flc run` would take."""
    try:
        return choose_socket(data, os.environ).parent
    except FlcError:
        return Path(data) if data else default_directory(os.environ)


async def meet(path: Path) -> Met:
    """Ask the node behind that socket, if there is one that answers."""
    try:
        async with asyncio.timeout(PATIENCE_S), await Client.connect(path) as client:
            status, members = await client.status(), await client.members()
            newest = [message async for message in client.log(n=1)]
    except FlcError as error:
        return Met(problem=str(error))
    except TimeoutError:
        return Met(problem=f"it says nothing at {path} for {PATIENCE_S:.0f} s")
    return Met(status, tuple(members), newest[0]["item"] if newest else None)


def peers_ring(args: argparse.Namespace, data: Path, met: Met, here: Settings) -> Keyring:
    """The keys and cluster to probe with: those given, else the node's own."""
    own = data / "keys"
    keys: tuple[bytes, ...] = ()
    if args.key_file:
        keys = read_keys(Path(args.key_file))
    elif os.access(own, os.R_OK):
        keys = read_ring(own).sources
    node = met.status["node"] if met.status else {}
    cluster = args.cluster or node.get("cluster") or here.cluster
    return keyring(keys, cluster)
