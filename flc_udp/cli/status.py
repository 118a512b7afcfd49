"""`flc status`, `digest`, `leave` and `forget`: how one node is, and who leaves in order.

The text shows what it knows of and passes over the rest; `--json` passes everything on.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator

from flc_udp.cli import text
from flc_udp.cli.connect import with_daemon
from flc_udp.cli.progress import Figures, Progress, to_go_text
from flc_udp.client import Client, Record, compact
from flc_udp.model.errors import FlcError

WATCH_SECONDS = 1.0
"""Between two pictures of `--watch`."""

LEAVE_SECONDS = 15.0
"""The longest an orderly departure takes: its own deadline and a last commit."""

DIGEST_KEYS = ("root", "members_root", "logs", "messages")


def add_status(parser: argparse.ArgumentParser) -> None:
    """`flc status`."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("-w", "--watch", action="store_true", help="again every second")


def status(args: argparse.Namespace) -> int:
    """Print how the node is; exit 1 if it is not healthy."""

    async def use(client: Client) -> int:
        progress = Progress()
        while True:
            record = await client.status()
            figures = progress.look(record, asyncio.get_running_loop().time())
            shown = status_text(record, figures if args.watch else None)
            if args.watch and not args.json:
                print(text.clear_screen(), end="")
            print(compact(record) if args.json else shown, flush=True)
            if not args.watch:
                return 0 if record["healthy"] else 1
            await asyncio.sleep(WATCH_SECONDS)

    return with_daemon(args, use)


def status_text(record: Record, figures: Figures | None = None) -> str:
    """One screen; a line whose facts are not there is left out. `figures` tell how it goes on."""
    node = record.get("node", {})
    health = "healthy" if record["healthy"] else "NOT HEALTHY"
    title = f"{node.get('name', 'node')} ({node.get('id', '?')}) is {health}"
    lines = [text.visible(title)]
    lines += [f"  ! {text.visible(str(reason))}" for reason in record.get("reasons", ())]
    lines += [
        f"  {label:<12}{text.visible(words)}" for label, words in _facts(record, figures) if words
    ]
    return "\n".join(lines)


def _facts(record: Record, figures: Figures | None) -> Iterator[tuple[str, str]]:
    node = record.get("node", {})
    if node:
        sealed = "sealed" if node.get("sealed") else "open, authenticates nobody"
        yield "cluster", f"{node.get('cluster')}, {sealed}"
        yield "address", str(node.get("address"))
        up = text.duration_text(node.get("uptime_s", 0))
        yield "running", f"version {node.get('version')}, up {up}"
        yield "metrics", f"http://{node['metrics']}/metrics" if node.get("metrics") else ""
    states = record.get("members", {}).items()
    yield "members", ", ".join(f"{count} {state}" for state, count in states)
    yield "own health", _health(record.get("health", {}))
    yield "history", _history(record)
    if record.get("catching_up"):
        yield "catching up", figures.text() if figures else to_go_text(record["catching_up"])
    yield "held back", text.counters_text(record.get("holdback", {}))
    yield "queues", text.counters_text(record.get("queues", {}))
    for name in ("sent", "received", "counts"):
        yield name, text.counters_text(record.get(name, {}))
    drops = {reason: count for reason, count in record.get("drops", {}).items() if count}
    yield "dropped", text.counters_text(drops)
    yield "disk", _disk(record.get("disk", {}))


def _health(health: Record) -> str:
    """How well it hears others, and what spoke against it, the latest first."""
    if not health:
        return ""
    score = f"{health['score']} of {health['score_max']}"
    slowed = f", probes {health['multiplier']} times slower" if health["score"] else ", well"
    against = {what: ago for what, ago in health["last_s_ago"].items() if what != "probe answered"}
    latest = sorted(against, key=lambda what: against[what])
    words = [
        f"{what} {text.duration_text(against[what])} ago ({health['counts'][what]} times)"
        for what in latest
    ]
    return score + slowed + "".join(f"; {word}" for word in words)


def _history(record: Record) -> str:
    kinds = [key for key in ("messages", "logs", "rooms") if key in record]
    words = [f"{record[key]} {key[:-1] if record[key] == 1 else key}" for key in kinds]
    if record.get("floor"):
        floor = text.time_text(record["floor"], local=False)
        words.append(f"{record['messages_kept']} of these kept, from {floor} on")
    if "root" in record:
        words.append(f"root {record['root']}")
    return ", ".join(words)


def _disk(disk: Record) -> str:
    words = []
    if "database_bytes" in disk:
        words.append(f"database {text.size_text(disk['database_bytes'])}")
    if "free_bytes" in disk:
        words.append(f"{text.size_text(disk['free_bytes'])} free")
    if disk.get("writable") is False:
        words.append("READ-ONLY")
    return ", ".join(words)


def add_digest(parser: argparse.ArgumentParser) -> None:
    """`flc digest`."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def digest(args: argparse.Namespace) -> int:
    """Print the two roots and what they are made of."""

    async def use(client: Client) -> int:
        answer = await client.digest()
        known = {key: answer[key] for key in DIGEST_KEYS}
        print(compact(known) if args.json else _digest_text(known))
        return 0

    return with_daemon(args, use)


def _digest_text(digest: Record) -> str:
    return "\n".join(f"{name.replace('_', ' '):<14}{value}" for name, value in digest.items())


def add_leave(parser: argparse.ArgumentParser) -> None:
    """It has no arguments of its own."""


def leave(args: argparse.Namespace) -> int:
    """Ask the node to leave, and wait until its daemon has closed the connection."""

    async def use(client: Client) -> int:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await client.leave()
        except TimeoutError as error:
            raise FlcError(
                "the node was asked to leave and its daemon has not ended",
                "its own log says what it waits for",
            ) from error
        return 0

    return with_daemon(args, use)


def add_forget(parser: argparse.ArgumentParser) -> None:
    """`flc forget`."""
    parser.add_argument("member", metavar="MEMBER", help="its name, or its id where names repeat")


def forget(args: argparse.Namespace) -> int:
    """Print whom the cluster now holds for left."""

    async def use(client: Client) -> int:
        answer = await client.request("forget", member=args.member)
        print(text.visible(f"{answer['name']} ({answer['member']}) has left, it is said"))
        return 0

    return with_daemon(args, use)
