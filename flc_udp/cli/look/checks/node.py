"""Checks of what the running node says of itself and of others: pure functions of its records.

Reachability has two directions. If a member is suspect or dead here, this node does not hear it. If
others accuse this node and it knows that, it hears them, but they do not hear it.
"""

from collections.abc import Sequence
from datetime import datetime

from flc_udp import __version__
from flc_udp.cli.look.checks.verdict import Verdict, fail, ok, warn
from flc_udp.cli.text import duration_text, rfc3339
from flc_udp.client import Record
from flc_udp.model.clocks import is_usable

NODE, VERSION, HEARS, HEARD, CLOCK = "node", "version", "hears others", "is heard", "clocks"

RECENT_S = 300
"""Older complaints are not reported: they are over, or the members' states still show them."""

SKEW_S = 2
"""Clocks may differ by this much. NTP keeps them far closer, but some times have whole seconds."""


def node(
    status: Record, members: Sequence[Record], newest: Record | None, now: datetime
) -> list[Verdict]:
    """Make all checks of a running node; `newest` is the last message of its history."""
    return [
        *health(status),
        version(str(status.get("node", {}).get("version")), __version__),
        hears(members),
        heard(status.get("health", {})),
        clocks(members, newest, now),
    ]


def health(status: Record) -> list[Verdict]:
    """Report each reason why the node is not healthy, or that it is."""
    about = status.get("node", {})
    name = f"{about.get('name')} ({about.get('id')}) at {about.get('address')}"
    if status["healthy"]:
        return [ok(NODE, f"{name}, up {duration_text(about.get('uptime_s', 0))}, is healthy")]
    advice = "flc status tells how the node is, and its log tells what happened"
    return [fail(NODE, str(reason), advice) for reason in status["reasons"]]


def version(daemon: str, here: str) -> Verdict:
    """Compare the releases of daemon and commands: an older daemon does not know all options."""
    if daemon != here:
        found = f"the node runs {daemon}, this flc is {here}"
        return warn(VERSION, found, "restart the node, or call the flc of its version")
    return ok(VERSION, f"the node and this flc are {here}")


def hears(members: Sequence[Record]) -> Verdict:
    """Report which members do not answer this node, and since when."""
    others = [member for member in members if not member["self"] and member["state"] != "left"]
    silent = [member for member in others if member["state"] in ("suspect", "dead")]
    if silent:
        found = "; ".join(
            "{name} at {address} is {state} since {since}".format_map(m) for m in silent
        )
        advice = (
            f"flc doctor {silent[0]['address']} checks the way there; if that node runs, run flc "
            f"doctor there, too; if it is gone for good: flc forget {silent[0]['id']}"
        )
        return warn(HEARS, found, advice)
    if not others:
        return ok(HEARS, "no other member is known")
    trips = [member["rtt_ms"] for member in others if member["rtt_ms"] is not None]
    slowest = f", the farthest in {max(trips)} ms" if trips else ""
    return ok(HEARS, f"{len(others)} of {len(others)} others answer{slowest}")


def heard(health: Record) -> Verdict:
    """Report whether others lately accused this node, or did not answer when asked to relay."""
    counts, ago = health.get("counts", {}), health.get("last_s_ago", {})
    lately = {change: s for change, s in ago.items() if s <= RECENT_S}
    if "accused" in lately:
        found = (
            f"others said {counts['accused']} times that this node does not answer, the last time "
            f"{duration_text(lately['accused'])} ago, so this node hears them"
        )
        way = "one way only? let UDP in at the node's port; look at `kernel drops` and at its load"
        return warn(HEARD, found, way)
    if "nack missing" in lately:
        found = (
            f"{counts['nack missing']} times a member that was asked to relay did not answer, the "
            f"last time {duration_text(lately['nack missing'])} ago"
        )
        way = "one of the two does not hear the other: look at the firewalls and the load of both"
        return warn(HEARD, found, way)
    return ok(HEARD, f"no other complained in the last {RECENT_S // 60} minutes")


def clocks(members: Sequence[Record], newest: Record | None, now: datetime) -> Verdict:
    """Report what comes from the future: stamps and incarnations begin at the wall clock.

    This finds a clock that is ahead. A clock that is behind only makes its messages look old, and
    only `flc doctor HOST:PORT` finds it. At a time that makes no stamps nothing is said at all.
    """
    if not is_usable(int(now.timestamp() * 1_000)):
        found = (
            f"this machine's clock says {rfc3339(now)}: before 1970 and after 2199 nothing is said"
        )
        return fail(CLOCK, found, "set the clock: timedatectl")
    ahead = [
        f"{member['name']} started {duration_text(ahead_s)} from now"
        for member in members
        if (ahead_s := member["incarnation"] - now.timestamp()) > SKEW_S
    ]
    if newest:
        ahead_s = (datetime.fromisoformat(newest["said_at"]) - now).total_seconds()
        if ahead_s > SKEW_S:
            said = f"was said {duration_text(ahead_s)} from now"
            ahead.append(f"the newest message, of {newest['author']}, {said}")
    if ahead:
        advice = "compare `date -u` there and here, and run NTP on both"
        return warn(CLOCK, "; ".join(ahead), f"this clock says {rfc3339(now)}: {advice}")
    return ok(CLOCK, "nothing is from the future (to compare clocks with a peer, give its address)")
