"""What the running node says of itself and of the others: pure functions of its records.

Reachability has two sides. Who is suspect or dead here is not heard by this node, and a node that
is accused is not heard by others while it hears them: what they say of it got here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flc_udp import __version__
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.text import duration_text, rfc3339
from flc_udp.client import Record

NODE, VERSION, HEARS, HEARD, CLOCK = "node", "version", "hears others", "is heard", "clocks"

RECENT_S = 300
"""Evidence of these minutes; what is older is past, or still shows in the members' states."""

SKEW_S = 2
"""Clocks that are kept by NTP agree far better, and times in whole seconds are cut off."""


def node(
    status: Record, members: list[Record], newest: Record | None, now: datetime
) -> list[Verdict]:
    """All checks of a node that runs; `newest` is the last message of its history."""
    return [
        *health(status),
        version(str(status.get("node", {}).get("version")), __version__),
        hears(members),
        heard(status.get("health", {})),
        clocks(members, newest, now),
    ]


def health(status: Record) -> list[Verdict]:
    """A line for each of its own reasons not to be well."""
    about = status.get("node", {})
    name = f"{about.get('name')} ({about.get('id')}) at {about.get('address')}"
    if status["healthy"]:
        return [ok(NODE, f"{name}, up {duration_text(about.get('uptime_s', 0))}, is healthy")]
    advice = "flc status tells how it is in all, and the node's own log what happened"
    return [fail(NODE, str(reason), advice) for reason in status["reasons"]]


def version(daemon: str, here: str) -> Verdict:
    """Commands and daemon are of one release, or an option may mean nothing to the daemon."""
    if daemon != here:
        found = f"the node runs {daemon}, this flc is {here}"
        return warn(VERSION, found, "start the node anew, or call the flc that belongs to it")
    return ok(VERSION, f"the node and this flc are {here}")


def hears(members: list[Record]) -> Verdict:
    """Who does not answer this node, and since when."""
    others = [member for member in members if not member["self"] and member["state"] != "left"]
    silent = [member for member in others if member["state"] in ("suspect", "dead")]
    if silent:
        return warn(HEARS, _silent(silent), _way_to(silent[0]))
    if not others:
        return ok(HEARS, "no other member is known")
    trips = [member["rtt_ms"] for member in others if member["rtt_ms"] is not None]
    slowest = f", the farthest in {max(trips)} ms" if trips else ""
    return ok(HEARS, f"{len(others)} of {len(others)} others answer{slowest}")


def _silent(silent: Iterable[Record]) -> str:
    return "; ".join(
        f"{member['name']} at {member['address']} is {member['state']} since {member['since']}"
        for member in silent
    )


def _way_to(member: Record) -> str:
    return (
        f"flc doctor {member['address']} tries the way there; if that node runs, look from its "
        f"side too; if it is gone for good: flc forget {member['id']}"
    )


def heard(health: Record) -> Verdict:
    """Whether others accused this node lately, or were silent when they were to relay for it."""
    counts, ago = health.get("counts", {}), health.get("last_s_ago", {})
    lately = {change: s for change, s in ago.items() if s <= RECENT_S}
    if "accused" in lately:
        return warn(
            HEARD,
            f"others said {counts['accused']} times that this node does not answer, the last time "
            f"{duration_text(lately['accused'])} ago, and that was heard here",
            "one way only? let UDP in at the node's port, and see `kernel drops` and its load",
        )
    if "nack missing" in lately:
        return warn(
            HEARD,
            f"{counts['nack missing']} times a member did not answer that was asked to relay, the "
            f"last time {duration_text(lately['nack missing'])} ago",
            "it does not hear this node, or is not heard: look at both sides' firewalls and load",
        )
    return ok(HEARD, f"no other complained in the last {RECENT_S // 60} minutes")


def clocks(members: list[Record], newest: Record | None, now: datetime) -> Verdict:
    """Whether anything is from the future: stamps and incarnations begin at the wall clock.

    That shows a clock which is ahead. One that is behind shows to `flc doctor HOST:PORT` alone:
    what it stamps is merely old.
    """
    ahead = [
        f"{member['name']} started {duration_text(seconds)} from now"
        for member in members
        if (seconds := member["incarnation"] - now.timestamp()) > SKEW_S
    ]
    if newest:
        seconds = (datetime.fromisoformat(newest["said_at"]) - now).total_seconds()
        if seconds > SKEW_S:
            said = f"was said {duration_text(seconds)} from now"
            ahead.append(f"the newest message, of {newest['author']}, {said}")
    if ahead:
        advice = f"this clock says {rfc3339(now)}: compare `date -u` on both, and run NTP on both"
        return warn(CLOCK, "; ".join(ahead), advice)
    return ok(CLOCK, "nothing is from the future (name a peer, to compare its clock with this one)")
