"""A play in which everything happens at once: loss, kills, backups put back, databases deleted."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from flc_udp.cli.connect import SOCKET
from flc_udp.client import Client, DaemonGoneError
from flc_udp.model.errors import FlcError
from tests.daemon.cluster import Cluster, Node
from tests.daemon.ledger import Ledger
from tests.daemon.process import DEADLINE_S, until
from tests.daemon.relay import Faults, Relay
from tests.daemon.scenarios import assert_causes_first, shown_by

CLIENTS_EACH = 3
PAUSE_S = 0.15
"""A client says something this often, on average."""

AGREE_EVERY = 50
"""After so many kills everything calms down for a moment, and all is compared."""

FATES = {"kill": 28, "delete": 2, "put back": 2, "delete while it runs": 2}
"""What happens to a node, and how often. It is killed in any case."""


class Churn:
    """One such play."""

    def __init__(self, cluster: Cluster, relay: Relay, nodes: list[Node], seed: int) -> None:
        self._cluster, self._relay, self._nodes, self._seed = cluster, relay, nodes, seed
        self._chance = Random(f"{seed}/fates")
        self._ledger = Ledger()
        for node in nodes:
            self._ledger.runs(node.id, node.name)
        self._backups: dict[Path, set[str]] = {}
        """{a backup: what must be in it}."""
        self._may_talk = asyncio.Event()
        self._talking = 0
        self.counts: Counter[str] = Counter()

    async def run(self, kills: int) -> None:
        """Kill so often, at the least, and compare everything in the end."""
        self._may_talk.set()
        clients = [
            asyncio.create_task(self._talk(node, Random(f"{self._seed}/{node.name}/{number}")))
            for node in self._nodes
            for number in range(CLIENTS_EACH)
        ]
        clients += [asyncio.create_task(self._watch(node)) for node in self._nodes]
        try:
            since = 0
            while self.counts["kills"] < kills:
                before = self.counts["kills"]
                await self._go_wrong()
                since += self.counts["kills"] - before
                if since >= AGREE_EVERY:
                    since = 0
                    await self._agree()
                for client in clients:
                    if client.done():
                        client.result()  # which raises what ended it
            await self._agree()
        finally:
            for client in clients:
                client.cancel()
            ended = await asyncio.gather(*clients, return_exceptions=True)
        problems = [e for e in ended if not isinstance(e, asyncio.CancelledError)]
        assert problems == [], problems
        for node in self._nodes:
            for room in ("ops", "lobby"):
                assert_causes_first(await shown_by(node, room))
            assert (await node.flc("fsck")).code == 0

    # --- Clients ----------------------------------------------------------------------------------

    async def _with(self, node: Node, act: Callable[[Client, str], Awaitable[None]]) -> None:
        """Be a client of whatever daemon there is, again and again."""
        while True:
            try:
                client = await Client.connect(node.data / SOCKET)
            except FlcError:
                await asyncio.sleep(0.05)
                continue
            try:
                node_id = (await client.status())["node"]["id"]
                self._ledger.runs(node_id, node.name)
                await act(client, node_id)
            except DaemonGoneError:
                self.counts["connections lost"] += 1
            finally:
                await client.close()

    async def _talk(self, node: Node, chance: Random) -> None:
        """Say something again and again."""

        async def talk(client: Client, node_id: str) -> None:
            while True:
                await self._may_talk.wait()
                await self._say(client, node_id, chance)
                await asyncio.sleep(chance.expovariate(1 / PAUSE_S))

        await self._with(node, talk)

    async def _watch(self, node: Node) -> None:
        """Note what the node shows."""

        async def watch(client: Client, node_id: str) -> None:
            async for shown in client.follow():
                self._ledger.shown(shown.message["dot"], node_id)

        await self._with(node, watch)

    async def _say(self, client: Client, node: str, chance: Random) -> None:
        body = f"{len(self._ledger.tried)} "
        body = body.ljust(chance.choice((10, 100, 1_000)), ".")
        wait = chance.choice((None, None, None, 1, 1, "all"))
        self._ledger.tried.add(body)
        must_refuse = node in self._ledger.gone
        self._talking += 1
        try:
            room = chance.choice(("ops", "ops", "lobby"))
            said = await client.say(room, body, wait=wait, timeout=2)  # type: ignore[arg-type]
        except DaemonGoneError:
            raise
        except FlcError:
            self.counts["refused"] += 1
            return
        finally:
            self._talking -= 1
        assert not must_refuse, f"{said.dot} was acknowledged without a database"
        holders = [title.rpartition("(")[2].rstrip(")") for title in said.held_by]
        self._ledger.acknowledged(said.dot, [node, *holders])
        self.counts["acknowledged"] += 1
        self.counts["waited for"] += bool(holders)

    # --- What goes wrong --------------------------------------------------------------------------

    async def _go_wrong(self) -> None:
        chance = self._chance
        self._relay.heal()
        self._relay.faults = Faults(
            chance.uniform(0, 0.25), chance.uniform(0, 0.2), chance.uniform(0, 0.5)
        )
        if chance.random() < 0.2:
            self._relay.isolate(chance.choice(self._nodes).name)
        await asyncio.sleep(chance.uniform(0, 0.6))  # they talk meanwhile
        if chance.random() < 0.2:
            await self._back_up(chance.choice(self._nodes))
        victims = chance.sample(self._nodes, chance.choice((1, 1, 1, 1, 2)))
        for node in victims:
            await self._hit(node)
        await asyncio.gather(*(self._start(node) for node in victims))

    async def _back_up(self, node: Node) -> None:
        path = self._cluster.home / f"backup{len(self._backups)}.db"
        held = self._ledger.on(node.name)
        ended = await node.flc("backup", str(path))
        assert ended.code == 0, ended
        self._backups[path] = held

    async def _hit(self, node: Node) -> None:
        """End a node, and perhaps its database."""
        chance = self._chance
        (fate,) = chance.choices(list(FATES), list(FATES.values()))
        if fate == "put back" and not self._backups:
            fate = "delete"
        if fate == "delete while it runs":
            self._delete(node)
            self._ledger.lost(node.name)
            await asyncio.sleep(chance.uniform(0, 0.5))  # it refuses what is said meanwhile
        node.kill9()
        self.counts["kills"] += 1
        self.counts[fate] += 1
        if fate != "kill":
            self._delete(node)
        if fate == "put back":
            backup = chance.choice(list(self._backups))
            shutil.copyfile(backup, node.data / "flc.db")
            (node.data / "flc.db").chmod(0o600)
            self._ledger.lost(node.name, self._backups[backup])
            # It holds what is in the backup, also where that was another node's.
            for dot in self._backups[backup]:
                self._ledger.homes[dot].add(node.name)
        elif fate != "kill":
            self._ledger.lost(node.name)

    def _delete(self, node: Node) -> None:
        for file in node.data.glob("flc.db*"):
            file.unlink()

    async def _start(self, node: Node) -> None:
        await node.start()
        self._ledger.runs(node.id, node.name)

    # --- Comparing --------------------------------------------------------------------------------

    async def _agree(self) -> None:
        """Nobody says anything for a moment, and all that was promised is there, on all nodes."""
        self._may_talk.clear()
        self._relay.heal()

        async def is_quiet() -> bool:
            return self._talking == 0

        await until("all says have their answers", is_quiet)
        history = await self._cluster.converged(*self._nodes, seconds=4 * DEADLINE_S)
        messages = map(json.loads, history.splitlines())
        found = {message["dot"]: message["body"] for message in messages}
        names = [node.name for node in self._nodes]
        self.counts["gone"] = self._ledger.agreed(found, names)
        self.counts["held"] = len(found)
        await until("all see all of them alive", self._are_alive, 2 * DEADLINE_S)
        self._may_talk.set()

    async def _are_alive(self) -> bool:
        wanted = {node.id for node in self._nodes}
        for node in self._nodes:
            members = await node.control.members()
            if not wanted <= {m["id"] for m in members if m["state"] == "alive"}:
                return False
        return True


async def churn(cluster: Cluster, kills: int, seed: int) -> str:
    """Nine clients talk to three nodes, which are killed, deleted and put back, under loss.

    What was acknowledged is there in the end, unless every disk went that it was promised to be on.
    """
    relay, nodes = await cluster.start_relayed(3, seed)
    play = Churn(cluster, relay, nodes, seed)
    await play.run(kills)
    words = [f"{count} {what}" for what, count in play.counts.items()]
    return f"{', '.join(words)}\n{relay.lost} of {relay.lost + relay.carried} datagrams lost"
