"""`flc status`, `flc digest` and `flc leave`."""

from __future__ import annotations

import json
import re

import pytest

from flc_udp.cli.look.screen import PEERS_SHOWN, Rates, status_text
from tests.cli.fake import STATUS, Ended, FakeDaemon, Flc, Spawn

PEER = {
    "name": "ben",
    "address": "127.0.0.1:7353",
    "state": "alive",
    "state_s": 90.0,
    "catching_up": False,
    "lag_messages": 0,
    "behind_s": 0.0,
    "told_s_ago": 1.5,
    "window_full": False,
    "in_flight_bytes": 0,
}
PEERS = {
    "live": 1,
    "lagging": 0,
    "lag_messages_max": 0,
    "behind": 0,
    "roots_differ": 0,
    "list": [PEER],
    "unlisted": 0,
}
CLIENTS = {
    "connections": 1,
    "blocked": 0,
    "paused": 0,
    "unread_bytes": 0,
    "follows": 0,
    "lagging": 0,
    "lag_max": 0,
    "waiting_for_others": 0,
    "turned_away": 0,
}


@pytest.mark.usefixtures("daemon")
async def test_a_healthy_node(flc: Flc) -> None:
    """One screen of facts, and exit 0."""
    ended = await flc("status")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "ann (00000000000000aa) is healthy; 1 member suspect\n"
        "  members     1 alive, 1 suspect\n"
        "  history     12 messages, 2 logs, 1 room, root 0123456789abcdef\n"
        "  disk        5.0 GB free, database 41.0 kB\n"
        "  dropped     not ours 3\n"
        "  cluster     flc, open, authenticates nobody\n"
        "  address     127.0.0.1:7352\n"
        "  running     version 0.1.0, up 1 h 1 min\n"
    )


async def test_an_unhealthy_node(daemon: FakeDaemon, flc: Flc) -> None:
    """The first line says why, the second what to do, then the other reasons; it is exit 1."""
    daemon.status |= {
        "healthy": False,
        "reasons": ["the log cannot be written: disk full", "7 bytes of disk are free"],
        "advice": ["look at the disk", "make room"],
    }

    ended = await flc("status")

    assert ended.code == 1
    assert ended.out.splitlines()[:4] == [
        "ann (00000000000000aa) is NOT HEALTHY: the log cannot be written: disk full (and 1 more)",
        "  do          look at the disk",
        "  ! 7 bytes of disk are free",
        "  do          make room",
    ]


def facts(**record: object) -> list[str]:
    """What the screen says besides the first line."""
    return status_text({"healthy": True, **record}).splitlines()[1:]


def test_peers_that_are_well_are_one_line() -> None:
    """Whatever is on its way just now."""
    assert facts(peers=PEERS) == ["  peers       none behind, all roots agree"]
    assert facts(peers=PEERS | {"lag_messages_max": 7, "roots_differ": 1}) == [
        (
            "  peers       none behind, at most 7 messages not confirmed, roots differ with 1"
            " (usual while much is said)"
        ),
    ]


def test_peers_that_are_not_are_named() -> None:
    """Each with what is known of it."""
    ill = [
        PEER | {"state": "dead", "state_s": 240.0, "told_s_ago": None},
        PEER | {"lag_messages": 4312, "behind_s": 125.0},
        PEER | {"catching_up": True, "told_s_ago": None},
        PEER | {"window_full": True, "in_flight_bytes": 65_000, "lag_messages": 1},
    ]
    lines = facts(peers=PEERS | {"live": 3, "behind": 1, "list": [*ill, PEER]})

    assert lines == [
        "  peers       1 of 3 behind, all roots agree",
        "              ben 127.0.0.1:7353: dead for 4 min 0 s",
        (
            "              ben 127.0.0.1:7353: 4312 messages behind, for 2 min 5 s, "
            "last confirmed 1 s ago"
        ),
        "              ben 127.0.0.1:7353: catching up",
        (
            "              ben 127.0.0.1:7353: 1 message not confirmed, window full, 65.0 kB in "
            "flight, last confirmed 1 s ago"
        ),
    ]


def test_of_a_thousand_the_worst_few_are_shown() -> None:
    """The others are counted."""
    ill = [PEER | {"behind_s": 2.0, "lag_messages": 9}] * 1_000
    lines = facts(peers=PEERS | {"live": 1_000, "behind": 1_000, "list": ill})

    assert len(lines) == 1 + PEERS_SHOWN + 1
    assert lines[-1].strip() == "and 995 more: `flc status --json`, `flc members`"


def test_who_is_alone_is_told_how_to_be_joined() -> None:
    """A node without peers is healthy, and a stranger reads what to do next."""
    lines = facts(peers=PEERS | {"live": 0, "list": []}, node={"address": "127.0.0.1:7352"})

    assert lines[0] == "  peers       none: start another node with --join 127.0.0.1:7352"


def test_clients_that_are_not_well_are_counted() -> None:
    """Quiet ones take two words."""
    assert facts(clients=CLIENTS) == ["  clients     1 connection, 0 follows"]
    busy = {"follows": 2, "lagging": 1, "lag_max": 90, "blocked": 1, "paused": 3, "turned_away": 4}
    assert facts(clients=CLIENTS | busy | {"unread_bytes": 2_000, "waiting_for_others": 1}) == [
        (
            "  clients     1 connection, 2 follows, 1 lagging, 90 messages at most, 1 do not read, "
            "3 wait to say more, 4 turned away, 2.0 kB unread, 1 say wait for others' disks"
        ),
    ]


def test_hooks_are_shown_with_what_failed_last() -> None:
    """What runs, waits, ended, and was never run for."""
    hook = {
        "running": 2,
        "waiting": 40,
        "passed_over": 3,
        "ended": {"ended well": 10, "failed": 1, "timed out": 0, "not started": 0},
        "last_failure": {"about": "aa:1", "reason": "exit code 7", "s_ago": 61.0},
    }
    assert facts(hooks={"on_message": hook}) == [
        (
            "  on-message  2 running, 40 waiting, 10 ended well, 1 failed, 3 passed over, "
            "last failure 1 min 1 s ago: exit code 7 (aa:1)"
        ),
    ]


def test_on_a_terminal_lines_fold_under_their_words() -> None:
    """At its width; a very narrow one is left to itself."""
    record = {"healthy": True, "counts": {f"counter {number}": number for number in range(9)}}
    folded = status_text(record, width=50).splitlines()

    assert max(map(len, folded)) <= 50
    assert all(line.startswith(" " * 14) for line in folded[2:])
    assert len(status_text(record, width=20).splitlines()) == 2


def test_rates_are_what_moved_between_two_looks() -> None:
    """Nothing at the first one, nor after a restart, which counts from 0."""
    rates = Rates()
    look = {"counts": {"messages committed": 100, "datagrams sent": 4}, "drops": {"a": 1}}
    assert rates.look(look, 1.0) == ""
    later = {"counts": {"messages committed": 300, "datagrams sent": 8}, "drops": {"a": 1, "b": 2}}
    assert rates.look(later, 3.0) == (
        "messages committed 100/s, datagrams in 0/s, out 2/s, dropped 1/s"
    )
    assert rates.look(look, 4.0) == ""


@pytest.mark.usefixtures("daemon")
async def test_json_passes_everything_on(flc: Flc) -> None:
    """Keys this client has never heard of are in the JSON, in the daemon's order."""
    ended = await flc("status", "--json")

    assert ended.out == json.dumps(STATUS, separators=(",", ":")) + "\n"


def test_little_is_enough() -> None:
    """Facts that an older daemon does not give are left out."""
    assert status_text({"healthy": True}) == "node (?) is healthy"


def test_catching_up_is_shown() -> None:
    """A newcomer says how much is to go."""
    lines = status_text({"healthy": True, "catching_up": 7}).splitlines()

    assert lines == ["node (?) is healthy; catching up", "  catching up 7 messages to go"]


async def test_catching_up_is_watched(daemon: FakeDaemon, spawn: Spawn) -> None:
    """--watch says after two looks how fast it goes and how long it will take."""
    daemon.looks = [{"messages": 100 * look, "catching_up": 900 - 100 * look} for look in range(9)]
    process = await spawn("status", "--watch")
    await daemon.until(lambda: len(daemon.asked("status")) == 3)
    process.terminate()
    out, _ = await process.communicate()

    first, second = [line for line in out.decode().splitlines() if "  catching up" in line][:2]
    assert first == "  catching up 900 messages to go, - messages/s, time left -"
    known = r"  catching up 800 messages to go, [1-9][0-9.]* messages/s, time left [1-9].*"
    assert re.fullmatch(known, second)


@pytest.mark.usefixtures("daemon")
async def test_digest(flc: Flc) -> None:
    """The two roots, and what they are made of."""
    assert await flc("digest", "--json") == Ended(
        0,
        '{"root":"0123456789abcdef","members_root":"fedcba9876543210","logs":2,"messages":12}\n',
        "",
    )
    assert (await flc("digest")).out.splitlines()[0] == "root          0123456789abcdef"


async def test_leave_waits_for_the_end(daemon: FakeDaemon, flc: Flc) -> None:
    """`flc leave` returns when the daemon has closed its socket."""
    assert await flc("leave") == Ended(0, "", "")
    assert len(daemon.asked("leave")) == 1
