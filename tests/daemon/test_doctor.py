from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flc_udp.cli.run.cluster import FLC
from tests.daemon.cluster import Cluster, Node
from tests.daemon.namespaces import Namespaces, unavailable
from tests.daemon.process import Ended, clean_environment, run_flc, until

NARROW = 1_300
"""An MTU below that of a full datagram, and above that of the least packet_bytes_max."""


def verdicts(ended: Ended) -> dict[str, dict[str, Any]]:
    """{check: verdict} of what `flc doctor --json` printed."""
    assert ended.err == ""
    return {verdict["check"]: verdict for verdict in ended.records}


def levels(ended: Ended) -> dict[str, str]:
    """{check: level}, without what depends on the machine."""
    machine = ("receive buffer", "kernel drops", "disk sync", "file system")
    return {k: v["level"] for k, v in verdicts(ended).items() if k not in machine}


async def test_a_healthy_cluster(cluster: Cluster) -> None:
    """All is ok, from the ground to the peer; it says so in one line a check, and exit 0."""
    ann, ben = await cluster.start(2)
    await ann.ask("say", room="ops", body="hi")
    ended = await ann.flc("doctor", ben.address, "--json")
    found = verdicts(ended)

    assert ended.code == 0
    assert set(levels(ended).values()) == {"ok"}
    assert f"process {ann.pid}" in found["its lock"]["found"]
    assert f"port {ann.address.rpartition(':')[2]}" in found["kernel drops"]["found"]
    assert ann.id in found["node"]["found"]
    assert ben.id in found["peer"]["found"]
    assert "give or take" in found["its clock"]["found"]

    people = await ann.flc("doctor", ben.address)
    lines = [line for line in people.out.decode().splitlines() if line[:1] != " "]
    assert [line[6:22].strip() for line in lines] == list(found)


async def test_keys_and_cluster_are_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """A peer is probed under them without being told; under others it is silent."""
    key = tmp_path / "key"
    key.write_bytes((await run_flc("keygen")).out)
    ann, ben = await cluster.start(2, "--key-file", str(key), "--cluster", "blue")
    of_its_own = await ann.flc("doctor", ben.address, "--json")
    told = await run_flc(
        *("doctor", ben.address, "--json", "--data", str(tmp_path / "none")),
        *("--key-file", str(key), "--cluster", "blue"),
    )
    wrong = await ann.flc("doctor", ben.address, "--json", "--cluster", "red")

    assert verdicts(of_its_own)["peer"]["level"] == "ok"
    assert verdicts(told)["peer"]["level"] == "ok"
    assert (wrong.code, verdicts(wrong)["peer"]["level"]) == (1, "fail")
    assert "key or cluster name?" in verdicts(wrong)["peer"]["advice"]


async def test_who_is_dead_is_named(cluster: Cluster) -> None:
    """It is a warning while others live, with its address and what may be done."""
    ann, ben, _ = await cluster.start(3)
    ben.kill9()

    async def is_dead() -> bool:
        return (await ann.states())["ben"] == "dead"

    await until("ben is dead", is_dead)
    found = verdicts(await ann.flc("doctor", "--json"))

    assert (found["node"]["level"], found["hears others"]["level"]) == ("ok", "warn")
    assert f"ben at {ben.address} is dead since" in found["hears others"]["found"]


async def test_before_while_and_after_a_node_runs(cluster: Cluster) -> None:
    """No directory yet, a node that is stopped, a socket that it left, and an orderly end."""
    ann = cluster.node()
    before = await ann.flc("doctor", "--json")
    await ann.start()
    ann.stop()
    stopped = await ann.flc("doctor", "--json")
    ann.cont()
    ann.kill9()
    killed = await ann.flc("doctor", "--json")
    await ann.start()
    await ann.flc("leave")
    await ann.ended()
    left = await ann.flc("doctor", "--json")

    assert (before.code, levels(before)["data directory"]) == (0, "warn")
    assert (stopped.code, levels(stopped)["its lock"]) == (1, "fail")
    assert (killed.code, levels(killed)["its lock"]) == (0, "warn")
    assert (left.code, levels(left)["its lock"]) == (0, "ok")
    assert not ann.data.joinpath("control.sock").exists()


async def test_what_others_can_read_is_a_failure(cluster: Cluster) -> None:
    """With the line that mends it."""
    (ann,) = await cluster.start(1)
    ann.data.chmod(0o755)
    found = verdicts(await ann.flc("doctor", "--json"))["data directory"]

    assert found["level"] == "fail"
    assert found["advice"].startswith(f"chmod 700 {ann.data}")


async def test_an_address_that_is_none_is_a_finding(tmp_path: Path) -> None:
    """As any other: what was found before it is printed all the same."""
    ended = await run_flc("doctor", "nowhere", "--json", "--data", str(tmp_path))

    assert ended.code == 1
    assert verdicts(ended)["peer"]["found"] == "'nowhere' is not an address"


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it is available")
async def test_a_narrow_path_is_found(cluster: Cluster) -> None:
    """An MTU below a full datagram: what this end is told, and what the other end swallows."""
    names = ("ann", "ben")
    with Namespaces(names) as hosts:
        ann, ben = (node_at(cluster, hosts, name) for name in names)
        await cluster.start_these(ann, ben)
        assert (await doctor_at(hosts, ann, ben))["level"] == "ok"

        narrow(hosts, "ben")
        swallowed = await doctor_at(hosts, ann, ben)
        narrow(hosts, "ann")
        told = await doctor_at(hosts, ann, ben)
        await cluster.clear()  # before their hosts go

    assert swallowed["level"] == "fail"
    assert "get no answer" in swallowed["found"]
    assert told["level"] == "warn"
    assert told["advice"].startswith(f"set packet_bytes_max = {NARROW - 28} ")


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it is available")
async def test_a_way_that_is_open_in_one_direction_is_found(cluster: Cluster) -> None:
    """Who hears that others accuse it, and does not reach them, says so itself."""
    names = ("ann", "ben", "cho")
    with Namespaces(names) as hosts:
        ann, *others = (node_at(cluster, hosts, name) for name in names)
        await cluster.start_these(ann, *others)
        hosts.cut("ann", "ben")
        hosts.cut("ann", "cho")

        async def is_accused() -> bool:
            return bool((await ann.ask("status"))["health"]["counts"].get("accused"))

        await until("ann is accused", is_accused)
        found = verdicts(await ann.flc("doctor", "--json"))["is heard"]
        await cluster.clear()  # before their hosts go

    assert found["level"] == "warn"
    assert "that this node does not answer" in found["found"]
    assert found["advice"].startswith("one way only?")


def node_at(cluster: Cluster, hosts: Namespaces, name: str) -> Node:
    """A node on a host of its own, not started."""
    where = ("--bind", f"{hosts.host(name)}:7352", "--insecure")
    return cluster.node(*where, name=name, prefix=tuple(hosts.command(name)))


async def doctor_at(hosts: Namespaces, ann: Node, ben: Node) -> dict[str, Any]:
    """What is said at ann's host of the path to ben."""
    words = ("doctor", ben.address, "--json", "--data", str(ann.data))
    process = await asyncio.create_subprocess_exec(
        *(*hosts.command("ann"), *FLC, *words),
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    found = [json.loads(line) for line in out.splitlines()]
    return next(verdict for verdict in found if verdict["check"] == "path MTU")


def narrow(hosts: Namespaces, name: str) -> None:
    """Give a host an interface that takes no full datagram."""
    link = ("ip", "link", "set", "eth0", "mtu", str(NARROW))
    subprocess.run([*hosts.command(name), *link], check=True)
