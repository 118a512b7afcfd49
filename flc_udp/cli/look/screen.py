"""One screen that tells how a node is. Somebody may read it at three in the morning.

Promise: the first line says whether the node is healthy and, if not, why. The next lines say what
to do. Then come the facts, the most important ones first. A fact is left out if all is quiet there,
or if the daemon did not tell it. On a terminal, long lines are folded at its width.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from operator import itemgetter

from flc_udp.cli import text
from flc_udp.cli.progress import CatchUpFigures, to_go_text
from flc_udp.client import Record
from flc_udp.model.visible import some_of, visible

PEERS_SHOWN = 5
"""At most this many ill peers are listed, the worst first. The others are only counted."""

INDENT = 14 * " "
"""The folded rest of a line stands below the words of its first part."""

WIDTH_LEAST = 40
"""On a narrower terminal lines are not folded, because that would make them harder to read."""

OF_CLIENTS = {"blocked": "do not read", "paused": "wait to say more", "turned_away": "turned away"}
"""What these counters of connections are called here."""

Fact = tuple[str, Iterable[str]]
"""A label, and parts that stand behind it in one line. Empty parts are left out."""


PAUSE_TOLD_S = 600
"""So long after it stood still a node still says so."""


def status_text(
    record: Record, figures: CatchUpFigures | None = None, rates: str = "", width: int | None = None
) -> str:
    """Write the screen. `figures` and `rates` come from several looks at the status."""
    lines = [_title(record), *_advice(record)]
    for label, parts in (*_facts(record, figures), ("rates", [rates]), *_about(record)):
        if words := ", ".join(filter(None, parts)):
            lines.append(f"  {label:<12}{words}")
    return "\n".join(_folded(visible(line), width) for line in lines)


def _folded(line: str, width: int | None) -> str:
    if width is None or width < WIDTH_LEAST:
        return line
    return textwrap.fill(
        line, width, subsequent_indent=INDENT, break_on_hyphens=False, break_long_words=False
    )


def _title(record: Record) -> str:
    node, reasons = record.get("node", {}), record.get("reasons", ())
    pause = _pause(record)
    title = f"{node.get('name', 'node')} ({node.get('id', '?')}) is "
    if not record["healthy"]:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        title += "NOT HEALTHY" + (f": {reasons[0]}{more}" if reasons else "")
        return "; ".join((title, *pause))
    return title + "; ".join(("healthy", *pause, *_notes(record)))


def _pause(record: Record) -> Iterator[str]:
    """Say that the node stood still lately, which may explain everything else."""
    if (pause := record.get("stood_still")) and pause["s_ago"] < PAUSE_TOLD_S:
        stood, ago = (text.duration_text(s) for s in (pause["ms"] / 1_000, pause["s_ago"]))
        yield f"stood still for {stood}, {ago} ago"


def _notes(record: Record) -> Iterator[str]:
    """List what a reader should know although the node is healthy."""
    members, peers = record.get("members", {}), record.get("peers", {})
    if record.get("catching_up"):
        yield "catching up"
    if flood := record.get("flood"):
        yield f"a flood: {flood['datagrams_a_second']} datagrams a second are from nobody"
    for state in ("dead", "suspect"):
        if count := members.get(state):
            yield f"{text.count_text(count, 'member')} {state}"
    if count := peers.get("behind"):
        yield f"{text.count_text(count, 'peer')} behind"


def _advice(record: Record) -> Iterator[str]:
    """Say what to do about each reason; the first reason itself stands in the title."""
    pairs = zip_longest(record.get("reasons", ()), record.get("advice", ()), fillvalue="")
    for number, (reason, advice) in enumerate(pairs):
        if number:
            yield f"  ! {reason}"
        if advice:
            yield f"  {'do':<12}{advice}"


def _facts(record: Record, figures: CatchUpFigures | None) -> Iterator[Fact]:
    """List the facts that may show a problem."""
    states = record.get("members", {}).items()
    yield "members", [f"{count} {state}" for state, count in states if count]
    yield from _peers(record.get("peers", {}), str(record.get("node", {}).get("address")))
    if to_go := record.get("catching_up"):
        yield "catching up", [figures.text() if figures else to_go_text(to_go)]
    yield "history", _history(record)
    yield "disk", _disk(record.get("disk", {}))
    yield "queues", [_quiet(record.get("queues", {}), "empty")]
    yield "held back", [_quiet(record.get("holdback", {}))]
    yield "clients", _clients(record.get("clients", {}))
    for name, hook in record.get("hooks", {}).items():
        yield name.replace("_", "-"), _hook(hook)
    yield "dropped", [_quiet(record.get("drops", {}))]
    if offenders := record.get("offenders"):
        yield "offenders", list(map(_offender, offenders[-PEERS_SHOWN:]))
    if carried := record.get("carried"):
        yield "clocks", list(map(_carried, carried[:PEERS_SHOWN]))
    if strangers := record.get("strangers"):
        yield "not opened", [f"of another key or cluster: {some_of(strangers, PEERS_SHOWN)}"]
    yield "own health", [_health(record.get("health", {}))]


def _about(record: Record) -> Iterator[Fact]:
    """Describe the node itself, and list its raw counters."""
    if node := record.get("node", {}):
        sealed = "sealed" if node.get("sealed") else "open, authenticates nobody"
        yield "cluster", [f"{node.get('cluster')}, {sealed}"]
        yield "address", [str(node.get("address"))]
        up = text.duration_text(node.get("uptime_s", 0))
        yield "running", [f"version {node.get('version')}, up {up}"]
        yield "metrics", [f"http://{node['metrics']}/metrics" if node.get("metrics") else ""]
    for name in ("sent", "received", "counts"):
        yield name, [text.counters_text(record.get(name, {}))]


def _peers(peers: Record, address: str) -> Iterator[Fact]:
    """Say in one line how far the peers are behind, and in one more line for each of the worst."""
    if not peers:
        return
    live, ill = peers["live"], [peer for peer in peers["list"] if _is_ill(peer)]
    if live:
        yield "peers", _together(peers)
    elif not ill:
        yield "peers", [f"none: start another node with --join {address}"]
    for peer in ill[:PEERS_SHOWN]:
        yield "", [f"{peer['name']} {peer['address']}: {', '.join(_ill(peer))}"]
    if len(ill) > PEERS_SHOWN:
        yield "", [f"and {len(ill) - PEERS_SHOWN} more: `flc status --json`, `flc members`"]


def _together(peers: Record) -> Iterator[str]:
    yield f"{peers['behind']} of {peers['live']} behind" if peers["behind"] else "none behind"
    if lag := peers["lag_messages_max"]:
        yield f"at most {text.count_text(lag, 'message')} not confirmed"
    if differ := peers["roots_differ"]:
        yield f"roots differ with {differ} (usual while much is said)"
    else:
        yield "all roots agree"


def _is_ill(peer: Record) -> bool:
    return bool(
        peer["state"] != "alive" or peer["behind_s"] or peer["catching_up"] or peer["window_full"]
    )


def _ill(peer: Record) -> Iterator[str]:
    lag = text.count_text(peer["lag_messages"], "message")
    if peer["state"] != "alive":
        yield f"{peer['state']} for {text.duration_text(peer['state_s'])}"
    if peer["catching_up"]:
        yield "catching up"
    if peer["behind_s"]:
        yield f"{lag} behind, for {text.duration_text(peer['behind_s'])}"
    elif peer["lag_messages"]:
        yield f"{lag} not confirmed"
    if peer["window_full"]:
        yield f"window full, {text.size_text(peer['in_flight_bytes'])} in flight"
    if peer["told_s_ago"] is not None:
        yield f"last confirmed {text.duration_text(peer['told_s_ago'])} ago"


def _clients(clients: Record) -> Iterator[str]:
    if not clients:
        return
    yield text.count_text(clients["connections"], "connection")
    yield text.count_text(clients["follows"], "follow")
    if clients["lagging"]:
        yield f"{clients['lagging']} lagging, {clients['lag_max']} messages at most"
    yield from (f"{clients[name]} {what}" for name, what in OF_CLIENTS.items() if clients[name])
    if clients["unread_bytes"]:
        yield f"{text.size_text(clients['unread_bytes'])} unread"
    if clients["waiting_for_others"]:
        yield f"{text.count_text(clients['waiting_for_others'], 'say')} wait for others' disks"


def _hook(hook: Record) -> Iterator[str]:
    yield f"{hook['running']} running, {hook['waiting']} waiting"
    ended = {**hook["ended"], "passed over": hook["passed_over"]}
    yield from (f"{count} {how}" for how, count in ended.items() if count)
    if failure := hook["last_failure"]:
        ago = text.duration_text(failure["s_ago"])
        yield f"last failure {ago} ago: {failure['reason']} ({failure['about']})"


def _health(health: Record) -> str:
    """Give the local health, and what made it worse, the latest first."""
    if not health:
        return ""
    score = f"{health['score']} of {health['score_max']}"
    slowed = f"probes {health['multiplier']} times slower" if health["score"] else "well"
    counts = health["counts"]
    words = [
        f"{what} {text.duration_text(ago_s)} ago ({text.count_text(counts[what], 'time')})"
        for what, ago_s in sorted(health["last_s_ago"].items(), key=itemgetter(1))
        if what != "probe answered"
    ]
    return "; ".join((f"{score}, {slowed}", *words))


def _history(record: Record) -> Iterator[str]:
    for key in ("messages", "logs", "rooms"):
        if key in record:
            yield text.count_text(record[key], key[:-1])
    if record.get("floor") and record.get("messages_kept") is not None:
        yield f"{record['messages_kept']} of these kept, from {record['floor']} on"
    if "root" in record:
        yield f"root {record['root']}"


def _disk(disk: Record) -> Iterator[str]:
    if disk.get("writable") is False:
        yield "READ-ONLY"
    if "free_bytes" in disk:
        yield f"{text.size_text(disk['free_bytes'])} free"
        wal = f" (WAL {text.size_text(disk['wal_bytes'])})" if disk.get("wal_bytes") else ""
        yield f"database {text.size_text(disk['database_bytes'])}{wal}"


def _quiet(counters: Mapping[str, int], otherwise: str = "") -> str:
    """List the counters that are not 0; if all are 0, return `otherwise`."""
    moved = {name: count for name, count in counters.items() if count}
    return text.counters_text(moved) or (otherwise if counters else "")


class Rates:
    """How many messages, datagrams and drops there were a second, between two looks."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._before: dict[str, int] | None = None

    def look(self, record: Record, at_s: float) -> str:
        """Write the rates in words: "" at the first look, and after a restart of the daemon."""
        counts = record.get("counts", {})
        now = {
            "messages committed": counts.get("messages committed", 0),
            "datagrams in": counts.get("datagrams received", 0),
            "out": counts.get("datagrams sent", 0),
            "dropped": sum(record.get("drops", {}).values()),
        }
        before, took_s = self._before, at_s - self._at_s
        self._before, self._at_s = now, at_s
        if before is None or took_s <= 0 or any(now[name] < before[name] for name in now):
            return ""
        return ", ".join(f"{name} {(now[name] - before[name]) / took_s:.0f}/s" for name in now)


def _offender(offender: Record) -> str:
    who = f"{offender['name']} ({offender['id']})" if offender["name"] else offender["id"]
    where = f" at {offender['address']}" if offender["address"] else ""
    times = f"{offender['times']} times, last {offender['ago_s']:.0f} s ago"
    return f"{visible(who)}{where} {offender['what']} ({times})"


def _carried(room: Record) -> str:
    who = f"{room['name']} ({room['id']})" if room["id"] else f"log {room['log']}"
    return visible(
        f"stamps of {room['room']!r} are ahead of the clock, at {room['stamps_at']}, by {who}"
    )
