"""`flc rooms` and `flc members`: print what a node knows, as a table or as JSON lines."""

from __future__ import annotations

import argparse
import sys

from flc_udp.cli import text
from flc_udp.cli.look.pictures import add_watch, show
from flc_udp.client import Client, Record, compact

MEMBER_HEADS = ("NAME", "ID", "STATE", "ADDRESS", "RTT", "HEALTH", "INCARNATION", "SINCE", "TAGS")


def add_rooms(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc rooms`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def rooms(args: argparse.Namespace) -> int:
    """Print the rooms, with the number of messages in each and the time of the last one."""

    async def picture(client: Client) -> str:
        items = await client.rooms()
        return _json_lines(items) if args.json or not items else _rooms_table(items)

    return show(args, picture)


def _rooms_table(items: list[Record]) -> str:
    local = sys.stdout.isatty()
    rows = [
        (r["room"], r["messages"], r["logs"], text.time_text(r["last_said_at"], local=local))
        for r in items
    ]
    return text.table(("ROOM", "MESSAGES", "LOGS", "LAST SAID"), rows)


def add_members(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `flc members`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    about = "print only members with this tag; if it is repeated, with all of the tags"
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], help=about)
    add_watch(parser)


def members(args: argparse.Namespace) -> int:
    """Print the members once, or again and again until Ctrl-C."""
    tags = set()
    if args.tag:
        from flc_udp.model.tags import parse_tag  # This imports msgpack, which takes a while.

        tags = set(map(parse_tag, args.tag))

    async def picture(client: Client) -> str:
        items = [item for item in await client.members() if tags <= set(item["tags"].items())]
        return _json_lines(items) if args.json else _members_table(items)

    return show(args, picture, watch=args.watch)


def _members_table(items: list[Record]) -> str:
    local = sys.stdout.isatty()
    rows = [
        (
            item["name"] + ("*" if item["self"] else ""),
            item["id"],
            item["state"],
            item["address"],
            None if item["rtt_ms"] is None else f"{item['rtt_ms']:.1f} ms",
            item["health"],
            item["incarnation"],
            text.time_text(item["since"], local=local),
            ",".join(f"{key}={value}" for key, value in item["tags"].items()) or None,
        )
        for item in items
    ]
    return text.table(MEMBER_HEADS, rows)


def _json_lines(items: list[Record]) -> str:
    return "\n".join(map(compact, items))
