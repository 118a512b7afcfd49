"""`flc rooms` and `flc members`: what a node knows, as a table or as one JSON object a line."""

from __future__ import annotations

import argparse
import asyncio
import sys

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.client import Client, Record, compact

WATCH_SECONDS = 1.0
"""Between two pictures of `--watch`: as often as a probe interval changes anything."""


def add_rooms(parser: argparse.ArgumentParser) -> None:
    """`flc rooms`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def rooms(args: argparse.Namespace) -> int:
    """Print the rooms."""

    async def use(client: Client) -> int:
        items = await client.rooms()
        print(_lines(items) if args.json else rooms_table(items), end="\n" if items else "")
        return 0

    return with_daemon(args, use)


def rooms_table(items: list[Record]) -> str:
    """Rooms with how much was said in them and when last."""
    local = sys.stdout.isatty()
    rows = [
        (r["room"], r["messages"], r["logs"], text.time_text(r.get("last_said_at"), local=local))
        for r in items
    ]
    return text.table(("ROOM", "MESSAGES", "LOGS", "LAST SAID"), rows) if rows else ""


def add_members(parser: argparse.ArgumentParser) -> None:
    """`flc members`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--tag",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="those with this tag alone; may be repeated, then with all of them",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="again every second")


def members(args: argparse.Namespace) -> int:
    """Print the members, once or until interrupted."""
    wanted = _wanted(args.tag)

    async def use(client: Client) -> int:
        while True:
            items = [item for item in await client.members() if _has(item, wanted)]
            if args.watch and not args.json:
                print(text.clear_screen(), end="")
            if items or not args.json:
                print(_lines(items) if args.json else members_table(items), flush=True)
            if not args.watch:
                return 0
            await asyncio.sleep(WATCH_SECONDS)

    return with_daemon(args, use)


def members_table(items: list[Record]) -> str:
    """Members by name, this node marked with a star."""
    local = sys.stdout.isatty()
    heads = ("NAME", "ID", "STATE", "ADDRESS", "RTT", "HEALTH", "INCARNATION", "SINCE", "TAGS")
    return text.table(heads, [_member_row(item, local=local) for item in items])


def _member_row(item: Record, *, local: bool) -> tuple[object, ...]:
    rtt = item.get("rtt_ms")
    return (
        item["name"] + ("*" if item.get("self") else ""),
        item["id"],
        item["state"],
        item["address"],
        None if rtt is None else f"{rtt:.1f} ms",
        item.get("health"),
        item.get("incarnation"),
        text.time_text(item.get("since"), local=local),
        ",".join(f"{key}={value}" for key, value in _tags(item).items()) or None,
    )


def _wanted(texts: list[str]) -> list[tuple[str, str]]:
    if not texts:
        return []
    from flc_udp.model.tags import parse_tag

    return [parse_tag(text) for text in texts]


def _has(item: Record, wanted: list[tuple[str, str]]) -> bool:
    return all(_tags(item).get(key) == value for key, value in wanted)


def _tags(item: Record) -> dict[str, str]:
    # A daemon of a version before tags knows none.
    tags: dict[str, str] = item.get("tags", {})
    return tags


def _lines(items: list[Record]) -> str:
    return "\n".join(map(compact, items))
