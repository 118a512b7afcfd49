"""`/metrics`, `/livez` and `/readyz` of real daemons."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import flc_udp
from flc_udp.config import Settings
from flc_udp.core.liveness.health import Change
from flc_udp.daemon.watch.metrics import COUNTS
from flc_udp.daemon.watch.status import Status
from flc_udp.daemon.watch.timings import Histogram, Timings
from flc_udp.daemon.watch.web import CONNECTIONS_MAX
from flc_udp.model.address import Address, parse_numeric
from flc_udp.waist.hearing import ENOUGH
from flc_udp.waist.ports import Batch
from flc_udp.wire.seal import SESSION_BYTES, Seal, keyring
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import assert_refused, run_flc, until
from tests.daemon.test_ipv6 import has_ipv6
from tests.daemon.watch.test_web import Answer, asked
from tests.model.stories import Story

COUNTERS = """
bases_taken blocks_committed blocks_healed blocks_replayed commits control_connections_turned_away
control_requests_refused
datagrams_received datagrams_sent drops failed_commits failures hook_output_dropped_bytes
hook_passed_over hook_runs
local_health_changes log_lines_left_out message_age_negative messages_committed messages_pruned
receive_buffer_drops
received_bytes sent_bytes stalls web_connections_pushed_out
"""
GAUGES = """
build_info catching_up control_connections control_connections_blocked control_connections_paused
control_held_bytes control_lists control_reads_waiting control_unread_bytes data_readable
database_bytes database_used_bytes
disk_free_bytes
floor_timestamp_seconds follower_lag_messages_max followers followers_lagging healthy
blocks_rotten flood_datagrams_per_second flood_filter
holdback_bytes hooks_running hooks_waiting keys leaving
local_health_score local_health_score_max log_writable logs members messages messages_kept
once_clients peer_behind_seconds_max
peer_lag_messages_max peers_behind peers_catching_up peers_lagging peers_roots_differ pieces_bytes
push_in_flight_bytes push_windows_full queue_length receive_buffer_size_bytes
receive_buffer_used_bytes rooms sessions uptime_seconds web_connections
"""
HISTOGRAMS = "commit_seconds message_age_seconds"

LABELS = {
    "version": "build_info",
    "state": "members",
    "queue": "queue_length",
    "reason": "drops",
    "change": "local_health_changes",
    "file": "database_bytes",
    "hook": "hook_passed_over hook_runs hooks_running hooks_waiting",
    "outcome": "hook_runs",
    "le": HISTOGRAMS,
}
"""Every label there is, and where."""

METRICS = ("--metrics", "127.0.0.1:0")


async def page(node: Node, path: str) -> Answer:
    """One page of a node, at the address that `flc status` shows."""
    host, _, port = (await node.ask("status"))["node"]["metrics"].rpartition(":")
    return await asked(Address(host, int(port)), f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def families(node: Node) -> dict[str, Metric]:
    """What a node tells of itself, by name, as Prometheus reads it."""
    answer = await page(node, "/metrics")
    assert answer.status == 200
    return {
        family.name.removeprefix("flc_"): family
        for family in text_string_to_metric_families(answer.body.decode())
        if family.name.startswith("flc_")
    }


async def values(node: Node) -> dict[str, float]:
    """All samples of a node by the names one would type, as `members{alive}`."""
    return {
        sample.name.removeprefix("flc_") + _braces(sample.labels): sample.value
        for family in (await families(node)).values()
        for sample in family.samples
    }


def _braces(labels: Mapping[str, str]) -> str:
    return f"{{{','.join(labels.values())}}}" if labels else ""


async def test_names_are_for_ever(cluster: Cluster) -> None:
    """These, with these types: a name that goes or changes breaks somebody's alarms."""
    (node,) = await cluster.start(1, *METRICS)

    found = {name: family.type for name, family in (await families(node)).items()}

    assert found == {
        **dict.fromkeys(COUNTERS.split(), "counter"),
        **dict.fromkeys(GAUGES.split(), "gauge"),
        **dict.fromkeys(HISTOGRAMS.split(), "histogram"),
    }


async def test_no_label_grows_with_what_is_said(cluster: Cluster) -> None:
    """Rooms, authors and members are in none, and every family has the samples it began with."""
    ann, ben = await cluster.start(2, *METRICS)
    before = await values(ann)
    for number in range(5):
        await ben.flc("say", f"room{number}", f"hi {number}", "--as", f"author{number}")
    await cluster.converged(ann, ben, messages=5)

    after = await until("it is fresh", lambda: _with(ann, "messages", 5))

    reasons = {name for name in after if name.startswith("drops_total")}
    assert set(before) - reasons == set(after) - reasons
    for name, family in (await families(ann)).items():
        for label in {label for sample in family.samples for label in sample.labels}:
            assert name in LABELS[label].split(), (name, label)
    assert all(re.fullmatch(r"drops_total\{[a-z0-9 ,'-]+\}", reason) for reason in reasons)


async def test_what_is_said_is_counted(cluster: Cluster) -> None:
    """Commits and ages, members, lags, bytes: by the one who says it and by the one who hears."""
    ann, ben = await cluster.start(2, *METRICS)
    await (await ben.client()).say("ops", "hi", wait="all")
    await cluster.converged(ann, ben, messages=1)

    heard = await until("ann is fresh", lambda: _with(ann, "messages_committed_total", 1))
    said = await until("ben is fresh", lambda: _with(ben, "messages_committed_total", 1))

    assert heard["message_age_seconds_count"] == 1
    assert said["message_age_seconds_count"] == 0
    for found in (heard, said):
        assert found["commit_seconds_count"] == found["commits_total"] == 1
        assert found["members{alive}"] == 2
        assert found["messages"] == found["messages_kept"] == found["logs"] == found["rooms"] == 1
        assert found["peer_lag_messages_max"] == found["peers_lagging"] == 0
        assert found["received_bytes_total"] > found["datagrams_received_total"] > 0
        assert found["database_bytes{wal}"] > 0
        assert found["receive_buffer_size_bytes"] > 0
    assert said["followers"] == 0
    assert said["control_connections"] >= 2


async def test_a_member_that_stands_still_is_seen_to_lag(cluster: Cluster) -> None:
    """What it has not said to hold is counted, at the node that said it."""
    ann, ben = await cluster.start(2, *METRICS)
    ben.stop()
    await (await ann.client()).say("ops", "hi")

    await until("ben is seen to lag", lambda: _with(ann, "peer_lag_messages_max", 1))
    assert (await values(ann))["peers_lagging"] == 1
    ben.cont()
    await until("ben has it", lambda: _with(ann, "peer_lag_messages_max", 0))


async def test_hooks_and_followers_are_counted(cluster: Cluster) -> None:
    """How commands ended by hook, and what clients do; without a command there are no samples."""
    ann, ben = cluster.node(*METRICS, "--on-message", "exit 1"), cluster.node(*METRICS)
    await cluster.start_these(ann, ben)
    await (await ann.client()).say("ops", "hi")

    found = await until("it failed", lambda: _with(ann, "hook_runs_total{on_message,failed}", 1))

    assert found["hook_runs_total{on_message,timed out}"] == 0
    assert found["hooks_running{on_message}"] == found["hooks_waiting{on_message}"] == 0
    assert found["control_connections"] >= 1
    assert found["followers_lagging"] == found["follower_lag_messages_max"] == 0
    assert found["web_connections"] == 1
    assert not any(name.startswith("hook") for name in await values(ben))


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells what it dropped")
async def test_what_the_system_drops_is_seen(cluster: Cluster) -> None:
    """A node that stood still does not know what it missed; its socket does."""
    (node,) = await cluster.start(1, *METRICS)
    host, _, port = node.address.rpartition(":")
    size = int((await values(node))["receive_buffer_size_bytes"])
    junk = bytes(60_000)

    node.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2 * size // len(junk)):
            sender.sendto(junk, (host, int(port)))
    node.cont()

    async def look() -> dict[str, float]:
        found = await values(node)
        return found if found["receive_buffer_drops_total"] else {}

    found = await until("drops are seen", look)
    assert found["receive_buffer_used_bytes"] <= size


async def test_ready_is_who_is_well(cluster: Cluster) -> None:
    """200 and a word; both pages are plain text."""
    (node,) = await cluster.start(1, *METRICS)

    ready, alive = await page(node, "/readyz"), await page(node, "/livez")

    assert (ready.status, ready.body) == (200, b"ready: healthy, and not catching up\n")
    assert (alive.status, alive.body) == (200, b"alive: the loop turns\n")


async def test_who_is_ill_is_alive_and_not_ready(cluster: Cluster) -> None:
    """503 and what is wrong, one reason a line; it is not restarted for that."""
    node = cluster.node(
        *METRICS, "--join", "127.0.0.1:1", environ={"FLC_DISK_FREE_BYTES_MIN": str(1 << 50)}
    )
    await node.start()

    ready, alive = await page(node, "/readyz"), await page(node, "/livez")

    assert ready.status == 503
    disk, seed = ready.body.decode().splitlines()
    assert "posts are refused" in disk
    assert "no seed has answered: 127.0.0.1:1" in seed
    assert alive.status == 200


async def test_a_data_directory_that_is_gone_is_told(cluster: Cluster) -> None:
    """The pages go on without it, and say so."""
    (node,) = await cluster.start(1, *METRICS)
    host, _, port = node.logged("node_started")[0]["metrics"].rpartition(":")
    node.data.rename(node.data.with_name("moved"))

    get = b"GET %s HTTP/1.0\r\n\r\n"
    metrics = await asked(Address(host, int(port)), get % b"/metrics")
    ready = await asked(Address(host, int(port)), get % b"/readyz")

    assert {"flc_data_readable 0.0", "flc_healthy 0.0"} <= set(metrics.body.decode().splitlines())
    assert "flc_database_bytes" not in metrics.body.decode()
    assert ready.status == 503
    assert ready.body.startswith(b"the data directory cannot be looked at: ")


async def test_dawdlers_cost_a_node_nothing(cluster: Cluster) -> None:
    """Neither those that ask nothing nor those that read nothing: pages and posts go on."""
    (node,) = await cluster.start(1, *METRICS)
    host, _, port = (await node.ask("status"))["node"]["metrics"].rpartition(":")
    dawdlers = [socket.create_connection((host, int(port))) for _ in range(3 * CONNECTIONS_MAX)]
    for dawdler in dawdlers[::2]:
        dawdler.sendall(b"GET /metrics HTTP/1.1")

    alive = await page(node, "/livez")
    said = await (await node.client()).say("ops", "hi")

    assert (alive.status, said.position) == (200, 1)
    for dawdler in dawdlers:
        dawdler.close()


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
async def test_pages_are_served_over_ipv6(cluster: Cluster) -> None:
    """At an address in brackets."""
    (node,) = await cluster.start(1, "--metrics", "[::1]:0")

    (address,) = [event["metrics"] for event in node.logged("node_started")]

    assert address.startswith("[::1]:")
    port = int(address.rpartition(":")[2])
    assert (await asked(Address("::1", port), b"HEAD /livez HTTP/1.0\r\n\r\n")).status == 200


async def test_the_address_is_told(cluster: Cluster) -> None:
    """In the first event and by `flc status`, also where the port was any and FLC_METRICS said."""
    ann = cluster.node(environ={"FLC_METRICS": "127.0.0.1:0"})
    ben = cluster.node()
    await cluster.start_these(ann, ben)

    (started,) = ann.logged("node_started")
    address = started["metrics"]

    assert re.fullmatch(r"127\.0\.0\.1:[1-9][0-9]+", address)
    assert (await ann.ask("status"))["node"]["metrics"] == address
    assert f"http://{address}/metrics" in (await ann.flc("status")).out.decode()
    assert ben.logged("node_started")[0]["metrics"] is None
    assert "metrics" not in (await ben.flc("status")).out.decode()


async def test_whoever_forges_datagrams_takes_no_node_out_of_its_balancer(
    cluster: Cluster,
) -> None:
    """They are counted and no more: what is wrong with a member alone wakes people."""
    (ann,) = await cluster.start(1, *METRICS)
    address = parse_numeric(ann.address)
    assert address is not None
    sealed = Seal(keyring((), "flc"), bytes(SESSION_BYTES)).close(b"hi")
    forged = sealed[:-1] + bytes([sealed[-1] ^ 1])

    async def is_counted(count: int) -> bool:
        return bool((await ann.ask("status"))["drops"].get("seal broken") == count)

    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.sendto(forged, (address.host, address.port))
        for _ in range(2 * ENOUGH - 1):
            sock.sendto(forged, (address.host, address.port))
    await until("all are dropped", partial(is_counted, 2 * ENOUGH))
    assert (await ann.ask("status"))["reasons"] == []
    assert (await page(ann, "/readyz")).status == 200


async def test_an_address_in_use_is_refused_before_the_node_is_seen(
    cluster: Cluster, tmp_path: Path
) -> None:
    """One error and one hint, and nothing is left of it."""
    (node,) = await cluster.start(1, *METRICS)
    taken = (await node.ask("status"))["node"]["metrics"]

    where = ("--data", str(tmp_path / "other"), "--bind", "127.0.0.1:0")
    ended = await run_flc("run", *where, "--metrics", taken)

    assert_refused(ended, f"cannot serve metrics on {taken}", "--metrics")
    assert not (tmp_path / "other" / "flc.db").exists()


def test_who_catches_up_or_leaves_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is healthy; each is a reason of its own."""
    monkeypatch.setattr(Status, "reasons", lambda _self, _facts: [])
    facts = Mock(repair=Mock(to_go=7))
    ground = Mock(node=Mock(facts=lambda: facts))
    status = Status(Settings(), ground, Mock(), Mock(), Mock(), None)

    facts.catching_up, facts.is_leaving = True, True
    reasons = [reason.text for reason in status.unready()]
    assert reasons == ["catching up, 7 messages to go", "leaving"]

    facts.catching_up, facts.is_leaving = False, False
    assert status.unready() == []


def test_all_that_a_node_counts_has_a_name() -> None:
    """Whoever counts something new names it here, and nothing is named that is not counted."""
    sources = (Path(flc_udp.__file__).parent / "waist").glob("*.py")
    counted = {
        name
        for source in sources
        for name in re.findall(r'_?counts\["([^"]+)"\]', source.read_text())
    }

    assert counted == set(COUNTS)
    assert len(Change) < 10


def test_a_histogram_counts_what_lies_within_each_bound() -> None:
    """A bound holds what is equal to it; the last class has no bound."""
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 9.0):
        histogram.note(seconds)

    assert histogram.cumulative() == [2, 3, 4]
    assert histogram.total == 12.0


def test_the_age_of_a_batch_is_that_of_one_message_of_others() -> None:
    """Own messages have none; one from the future counts as new, and is counted."""
    story = Story()
    own, other = story.say("ann"), story.say("ben")
    timings = Timings()
    is_own = own.log.__eq__

    timings.arrived(Batch((own,), ()), is_own, own.wall)
    assert timings.age.cumulative()[-1] == 0

    timings.arrived(Batch((own, other), ()), is_own, other.wall + 2_000)
    assert (timings.age.cumulative()[-1], timings.age.total) == (1, 2.0)

    timings.arrived(Batch((other, own), ()), is_own, other.wall - 1)
    assert (timings.age.total, timings.from_the_future) == (2.0, 1)


async def _with(node: Node, name: str, value: float) -> dict[str, float]:
    """All values, once this one is so; a page may be a moment old."""
    found = await values(node)
    return found if found[name] == value else {}
