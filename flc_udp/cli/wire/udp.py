"""`flc udp`: netcat for the wire. JSON lines go out as sealed datagrams, what comes is decoded.

`wire/packet_json.py` says how packets are typed, `datagram_lines.py` what a line and a record are,
and `udp_session.py` how a session goes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

from flc_udp.cli import pipes
from flc_udp.cli.arguments import seconds
from flc_udp.cli.complaint import DONE, FAILED, complain
from flc_udp.cli.wire.datagram_lines import LINE_BYTES_MAX, read_datagram
from flc_udp.cli.wire.hexdump import Captured, HexReader
from flc_udp.cli.wire.probe import add_key_flags, given_ring, visitors_seal
from flc_udp.cli.wire.udp_session import STDIN, UdpSession
from flc_udp.client import compact
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.wire.seal import Seal

USAGE = "flc udp HOST PORT | -l [HOST:]PORT | --decode  [OPTION]..."


def add_udp(parser: argparse.ArgumentParser) -> None:
    """`flc udp HOST PORT`, `-l PORT` or `--decode`."""
    parser.usage = USAGE
    parser.set_defaults(misused=parser.error)
    flag = parser.add_argument
    flag("target", metavar="HOST PORT", nargs="*", help="a node's UDP address")
    flag("-l", dest="listen", metavar="[HOST:]PORT", help="listen there, by default on 127.0.0.1")
    flag("-z", dest="probe", action="store_true", help="only probe: exit 0 if there is an answer")
    flag("-x", dest="hex", action="store_true", help="add the bytes, sealed and opened, as hex")
    flag("-v", dest="verbose", action="store_true", help="say what is sent, received and dropped")
    flag("-w", dest="silence", metavar="SECS", type=seconds, help="quit after SECS of silence")
    flag("--decode", action="store_true", help="read hex or `tcpdump -x` from stdin, send nothing")
    add_key_flags(parser)


def udp(args: argparse.Namespace) -> int:
    """Speak with a node, listen, or decode, until there is a reason to quit."""
    if sum((bool(args.target), args.listen is not None, args.decode)) != 1:
        args.misused("one of HOST PORT, -l PORT and --decode is needed")
    if args.probe and not args.target:
        args.misused("-z needs HOST PORT")
    _join_addresses(args)
    seal = visitors_seal(given_ring(args))
    run = decode(seal, with_hex=args.hex) if args.decode else UdpSession(seal, args).run()
    return asyncio.run(run)


def _join_addresses(args: argparse.Namespace) -> None:
    """Check the addresses, and spell both `HOST PORT` and `HOST:PORT` in one word."""
    if args.target:
        *hosts, port = args.target
        if len(hosts) > 1:
            args.misused(f"one HOST and one PORT are needed, not {' '.join(args.target)}")
        args.target = _joined(hosts[0], port) if hosts else port
        if not split_host_port(args.target)[1]:
            raise FlcError(f"nothing listens on port 0 of {args.target}", "write a port from 1")
    elif args.listen is not None:
        is_port = ":" not in args.listen
        args.listen = _joined("127.0.0.1", args.listen) if is_port else args.listen
        split_host_port(args.listen)


def _joined(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host and host[0] != "[" else f"{host}:{port}"


async def decode(seal: Seal, *, with_hex: bool) -> int:
    """Print the hex of stdin as records, without any network; 1 if some could not be read."""
    code = DONE
    async for found in _captured():
        if isinstance(found, FlcError):
            complain(str(found), found.hint)
            code = FAILED
            continue
        reading = read_datagram(found.datagram, seal, with_hex=with_hex)
        ends = {"from": found.source, "to": found.target}
        known = {name: str(end) for name, end in ends.items() if end is not None}
        print(compact({**known, **reading.record}), flush=True)
        code = code if reading.is_valid else FAILED
    return code


async def _captured() -> AsyncIterator[Captured | FlcError]:
    reader = HexReader()
    async for lines in pipes.line_batches(STDIN, LINE_BYTES_MAX):
        for line in lines:
            for found in reader.feed(line.decode(errors="replace")):
                yield found
    for error in reader.end():
        yield error
