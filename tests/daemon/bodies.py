"""A play of large bodies over a network that loses a quarter of everything."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from random import Random

from flc_udp.config import BODY_BYTES_MAX
from tests.daemon.cluster import Cluster, Node
from tests.daemon.process import DEADLINE_S, until
from tests.daemon.relay import Faults

LOSS = 0.25


async def say_large_bodies(
    cluster: Cluster,
    count: int,
    seed: int,
    body_bytes: int = BODY_BYTES_MAX,
    seconds: float = DEADLINE_S,
) -> str:
    """Large bodies arrive whole on all nodes, whoever said them, with a quarter of it all lost.

    The nodes say them in turn, each as soon as the last one is durable where it was said.
    """
    config = cluster.home / "large.toml"
    config.write_text(f"body_bytes_max = {body_bytes}\n")
    relay, nodes = await cluster.start_relayed(3, seed, "--config", str(config))
    relay.faults = Faults(loss=LOSS)
    chance = Random(seed)
    began = time.monotonic()
    said: dict[str, str] = {}
    for number in range(count):
        body = base64.b64encode(chance.randbytes(body_bytes))[:body_bytes]
        said[await say(nodes[number % len(nodes)], body)] = hashlib.sha256(body).hexdigest()
    said_s = time.monotonic() - began
    await until("all have all bodies", lambda: hold_all(nodes, count), seconds)
    took_s = time.monotonic() - began
    peaks = ", ".join(f"{peak_bytes(node) / 1e6:.0f}" for node in nodes)
    lost, sent = relay.lost, relay.lost + relay.carried
    relay.heal()
    arrived = hashes(await cluster.converged(*nodes, messages=count))
    assert arrived == said
    return (
        f"{len(arrived)} of {count} whole on all in {took_s:.1f} s, {took_s - said_s:.1f} s after "
        f"the last was said\n{lost / sent:.0%} of {sent} datagrams lost; peak memory {peaks} MB"
    )


async def say(node: Node, body: bytes) -> str:
    """Say it by `flc say ROOM -`; its dot."""
    said = await node.flc("say", "large", "-", stdin=body)
    assert (said.code, said.err) == (0, "")
    return said.out.decode().strip()


async def hold_all(nodes: list[Node], count: int) -> bool:
    """Whether each of these holds so many messages."""
    return all([(await node.ask("digest"))["messages"] == count for node in nodes])


def peak_bytes(node: Node) -> int:
    """The most memory it ever had (proc(5))."""
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


def hashes(history: bytes) -> dict[str, str]:
    """{dot: SHA-256 of its body}."""
    messages = map(json.loads, history.splitlines())
    return {m["dot"]: hashlib.sha256(m["body"].encode()).hexdigest() for m in messages}
