"""`flc ping`: probes a node from outside, over the same path as the cluster's own traffic.

The datagrams are sealed pings of a visitor. So an answer proves four things: the way there, the way
back, the key with the cluster's name, and a daemon that is not stuck.

A visitor seals its datagrams with the cluster's key like any node. But it has no id of its own, so
a node answers it and takes it for nobody's member. `flc udp` and `flc doctor` are visitors, too.
"""

import argparse
import asyncio
import errno
import secrets
import select
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flc_udp.cli.connect import SOCKET
from flc_udp.cli.conventions import DONE, INTERRUPTED, SILENT, complain, positive, seconds
from flc_udp.cli.text import json_line
from flc_udp.client import Client
from flc_udp.config import DATAGRAM_BYTES_MAX, HASH_BYTES, ID_BYTES, Settings
from flc_udp.model.address import NO_HOST, Address, fold, split_host_port
from flc_udp.model.dots import VISITOR, LogId
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.model.visible import visible
from flc_udp.wire import codec
from flc_udp.wire.dissect import payload_of
from flc_udp.wire.packets import Ack, Cookie, Hello, Packet, Ping
from flc_udp.wire.ring import read_ring
from flc_udp.wire.seal import SESSION_BYTES, Keyring, Seal, keyring, read_keys, receiver_of

PATIENCE_S = 1.5
"""A visitor waits this long for the answer to its last ping."""


class VisitorAnswer(NamedTuple):
    """An ack, the node that sent it, the address it came from, and the round trip."""

    ack: Ack
    node: bytes
    source: Address
    took_ms: float
    ahead_ms: float
    """Its wall clock is ahead of this one by this much, give or take half of `took_ms`."""


@dataclass(slots=True)
class Way:
    """A socket, and one address of whom it speaks to. IPv6 has two more numbers there."""

    socket: socket.socket
    target: tuple[Any, ...]
    receiver: bytes = b""
    """Which node is there, once its cookie has told (`wire/seal.receiver_of`)."""


class Visitor:
    """One session, to ping one name. Until an address of it answers, all of them are pinged."""

    def __init__(self, address: str, ring: Keyring) -> None:
        self.ways: list[Way] = []
        for family, target in _resolved(address):
            with suppress(OSError):  # A machine may know IPv6 addresses and have no IPv6.
                self.ways.append(Way(socket.socket(family, socket.SOCK_DGRAM), target))
        self._seal = visitors_seal(ring)

    def close(self) -> None:
        """Close the sockets."""
        for way in self.ways:
            way.socket.close()

    def ping(self, patience_s: float, padding: Sequence[Packet] = ()) -> VisitorAnswer | None:
        """Send one datagram with a ping and the padding, and wait for the answer.

        Everything else that comes is ignored. Raises OSError if it can be sent nowhere.
        """
        ping, began_s = visitors_ping(), time.perf_counter()
        payload = payload_of(VISITOR, [ping, *padding])
        self._send(payload)
        sent_s, ends_s = began_s, began_s + patience_s
        while (left_s := ends_s - time.perf_counter()) > 0:
            for way in self._readable(left_s):
                try:
                    datagram, source = way.socket.recvfrom(DATAGRAM_BYTES_MAX)
                    sender, packets, _ = codec.read(self._seal.open(datagram).payload)
                except (OSError, Malformed):
                    continue
                for packet in packets:
                    if isinstance(packet, Cookie) and packet.counter <= self._seal.counter:
                        sent_s = time.perf_counter()
                        self._prove(way, sender, packet, payload)
                    elif isinstance(packet, Ack) and packet.nonce == ping.nonce:
                        self._settle_on(way)
                        took_ms = (time.perf_counter() - sent_s) * 1e3
                        # Both directions are assumed to take the same time (RFC 5905, section 8).
                        ahead_ms = packet.wall - (time.time() * 1e3 - took_ms / 2)
                        return VisitorAnswer(packet, sender, address_of(source), took_ms, ahead_ms)
        return None

    def _prove(self, way: Way, sender: bytes, cookie: Cookie, payload: bytes) -> None:
        """Prove this session and address to a node that asked for it, and ping it again."""
        way.receiver = receiver_of(sender)
        for again in (payload_of(VISITOR, [Hello(cookie.mac)]), payload):
            with suppress(OSError):
                way.socket.sendto(self._seal.close(again, way.receiver), way.target)

    def _send(self, payload: bytes) -> None:
        problems = []
        for way in self.ways:
            try:
                way.socket.sendto(self._seal.close(payload, way.receiver), way.target)
            except OSError as error:
                problems.append(error)
        if len(problems) == len(self.ways):
            raise problems[0] if problems else OSError(errno.EAFNOSUPPORT, "no socket for it")

    def _readable(self, patience_s: float) -> list[Way]:
        readable = select.select([way.socket for way in self.ways], [], [], patience_s)[0]
        return [way for way in self.ways if way.socket in readable]

    def _settle_on(self, way: Way) -> None:
        for other in self.ways:
            if other is not way:
                other.socket.close()
        self.ways = [way]


def add_key_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--key-file` and `--cluster`, and say what `--data` is good for here."""
    flag = parser.add_argument
    flag("--data", metavar="DIR", help="use the keys and the cluster's name of the node there")
    flag("--key-file", metavar="FILE", help="the cluster's keys (default: with --data the node's)")
    name = "the cluster's name (default: with --data that of the node that runs there, else flc)"
    flag("--cluster", metavar="NAME", help=name)


def given_ring(args: argparse.Namespace) -> Keyring:
    """Make the ring of `--key-file` and `--cluster`, or of a node (`--data`); raises FlcError."""
    keys: tuple[bytes, ...] = ()
    if args.key_file:
        keys = read_keys(Path(args.key_file))
    elif args.data and (own := Path(args.data, "keys")).exists():
        keys = read_ring(own).sources
    cluster = args.cluster
    if cluster is None and args.data:
        cluster = asyncio.run(_cluster_of(Path(args.data, SOCKET)))
    return keyring(keys, cluster or Settings().cluster)


async def _cluster_of(path: Path) -> str | None:
    """Ask the node behind a socket for its cluster's name; None where no node answers."""
    with suppress(FlcError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S), await Client.connect(path) as client:
            return str((await client.status())["node"]["cluster"])
    return None


def visitors_seal(ring: Keyring) -> Seal:
    """Begin a session of a visitor."""
    return Seal(ring, secrets.token_bytes(SESSION_BYTES))


def visitors_ping() -> Ping:
    """Make a ping that claims nothing. Its nonce is never 0, which in an ack means: no ping."""
    root = bytes(HASH_BYTES)
    nonce = secrets.randbelow((1 << 64) - 1) + 1
    return Ping(nonce, root, root, catching_up=False, log=LogId(bytes(ID_BYTES)))


def address_of(address: tuple[Any, ...]) -> Address:
    """Spell a socket's address in the one way we do; an IPv6 scope is left out."""
    return fold(address[0].partition("%")[0], address[1])


def _resolved(text: str) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Find the addresses of HOST:PORT, each with its family; raises FlcError where it has none."""
    from flc_udp.daemon.lookup import look_up  # only here

    host, port = split_host_port(text)
    try:
        found = look_up(host, port, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or NO_HOST
        hint = "write HOST:PORT of a host that resolves"
        raise FlcError(f"{text!r} has no address: {reason}", hint) from error
    return list(dict.fromkeys((family, target) for family, *_, target in found))


# --- The command ----------------------------------------------------------------------------------


def add_ping(parser: argparse.ArgumentParser) -> None:
    """`flc ping`."""
    flag = parser.add_argument
    flag("address", metavar="HOST:PORT", help="a node's UDP address")
    flag("-c", dest="count", metavar="N", type=positive, help="stop after N pings")
    every = "send a ping every SECS seconds (default 1)"
    flag("-i", dest="interval", metavar="SECS", type=seconds, default=1.0, help=every)
    add_key_flags(parser)


def ping(args: argparse.Namespace) -> int:
    """Ping until the count is reached or Ctrl-C; exit 3 if nothing was answered."""
    if not args.interval:
        raise FlcError("pings without a pause would be a flood", "give -i seconds above 0")
    if not split_host_port(args.address)[1]:
        raise FlcError(f"nothing listens on port 0 of {args.address}", "write a port from 1")
    visitor, sent, code = Visitor(args.address, given_ring(args)), 0, DONE
    trips_ms: list[float] = []
    try:
        while args.count is None or sent < args.count:
            sent += 1
            due_s = time.perf_counter() + args.interval
            is_last = sent == args.count
            answer = _ping(visitor, args.address, PATIENCE_S if is_last else args.interval)
            if answer is not None:
                trips_ms.append(answer.took_ms)
                print(_answer_text(answer, sent, as_json=args.json), flush=True)
            if not is_last:
                time.sleep(max(due_s - time.perf_counter(), 0))
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        visitor.close()
    print(_summary(sent, trips_ms, as_json=args.json))
    if trips_ms or code:
        return code
    complain(f"{args.address} did not answer", "is it there, and are key and cluster name right?")
    return SILENT


def _ping(visitor: Visitor, address: str, patience_s: float) -> VisitorAnswer | None:
    try:
        return visitor.ping(patience_s)
    except OSError as error:
        problem = f"cannot send to {address}: {error.strerror}"
        raise FlcError(problem, "is there a route to it? see `ip route get`") from error


def _answer_text(answer: VisitorAnswer, seq: int, *, as_json: bool) -> str:
    ack, source, node = answer.ack, str(answer.source), answer.node.hex()
    if as_json:
        whence = {"seq": seq, "id": node, "address": source, "rtt_ms": round(answer.took_ms, 3)}
        return json_line({**whence, "health": ack.health, "catching_up": ack.catching_up}).decode()
    state = ", catching up" if ack.catching_up else ""
    line = f"ack from {node} at {source}: seq={seq} time={answer.took_ms:.2f} ms"
    return visible(f"{line} health={ack.health}{state}")


def _summary(sent: int, trips_ms: list[float], *, as_json: bool) -> str:
    """Write what ping(8) prints at its end."""
    answered, figures = len(trips_ms), _figures(trips_ms)
    loss = 100 * (1 - answered / sent) if sent else 0.0
    if as_json:
        total = {"sent": sent, "answered": answered, "loss_percent": round(loss, 1)}
        return json_line({**total, "rtt_ms": figures or None}).decode()
    line = f"{sent} sent, {answered} answered, {loss:.0f}% loss"
    trips = ", ".join(f"{name} {ms} ms" for name, ms in figures.items())
    return f"{line}\nround trip {trips}" if trips else line


def _figures(trips_ms: list[float]) -> dict[str, float]:
    if not trips_ms:
        return {}
    figures = {"min": min(trips_ms), "avg": statistics.fmean(trips_ms), "max": max(trips_ms)}
    figures["mdev"] = statistics.pstdev(trips_ms)
    return {name: round(ms, 3) for name, ms in figures.items()}
