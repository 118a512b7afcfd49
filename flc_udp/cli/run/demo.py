"""`flc demo`: the promises of flc in one terminal, kept by real daemons on this machine.

Promise: exit 0 means that each of them was checked and held; otherwise the error names the one that
did not. Nothing waits for a fixed time: a step goes on when what it is about has happened.
"""

import argparse
import asyncio
import time
from contextlib import suppress
from hashlib import blake2b

import orjson

from flc_udp.cli import text
from flc_udp.cli.conventions import number_from
from flc_udp.cli.run.cluster import LocalCluster, LocalNode, broken, temporary_cluster, until
from flc_udp.client import DaemonGoneError, Shown
from flc_udp.model.visible import visible

ROOM = "lobby"

NODES_MIN, NODES_MAX = 3, 32
"""With fewer nodes nobody could talk while one is down; more are for the simulator."""

LINES_EACH = 4
"""Each node says this many messages in a step."""

EXCHANGES = 6
"""This many questions get a reply from another node."""


def add_demo(parser: argparse.ArgumentParser) -> None:
    """`flc demo`."""
    kind, about = number_from(NODES_MIN, NODES_MAX), "from 3 to 32 (default 3)"
    parser.add_argument("--nodes", metavar="N", type=kind, default=NODES_MIN, help=about)


def demo(args: argparse.Namespace) -> None:
    """Tell the story; whatever happens, its nodes and their directories are gone afterwards."""
    with temporary_cluster() as cluster:
        asyncio.run(Story(cluster, args.nodes).tell())


class Story:
    """The steps, each of which tells what it found."""

    def __init__(self, cluster: LocalCluster, count: int) -> None:
        self._cluster = cluster
        self._nodes = [cluster.node("--log-level", "warning") for _ in range(count)]
        self._shown: dict[LocalNode, list[Shown]] = {node: [] for node in self._nodes}
        self._followers: dict[LocalNode, asyncio.Task[None]] = {}
        self._acknowledged: list[str] = []
        self._replies: list[tuple[str, str]] = []
        self._victim = self._nodes[-1]

    async def tell(self) -> None:
        """Tell all of it; raises FlcError at the first promise that does not hold."""
        name, began_s = self._victim.name, time.monotonic()
        steps = {
            "Nodes start and find each other": self._find_each_other,
            "Each says something on its own node": self._everyone_speaks,
            "A reply is shown after what it replies to, everywhere": self._replies_come_after,
            f"kill -9 {name}; the others go on talking": self._one_is_killed,
            f"{name} returns with the same directory and catches up": self._it_returns,
            "The same history everywhere: BLAKE2b of `flc log -n 0 --json`": self._same_history,
        }
        _print(f"{len(self._nodes)} nodes on this machine, no server in the middle.")
        for title, step in steps.items():
            _print(f"\n{_styled(title, '1')}")
            step_began_s = time.monotonic()
            found = await step()
            took = f"{time.monotonic() - step_began_s:.1f} s"
            _print(f" {_styled('ok', '32')} {found:<68}{took:>7}")
        seconds = time.monotonic() - began_s
        _print(f"\nEvery promise held, in {seconds:.1f} s. Your own node: flc run")

    async def _find_each_other(self) -> str:
        await self._cluster.start_these(*self._nodes)
        first = self._nodes[0]
        for node in self._nodes:
            self._follow(node)
            _fact(node, f"{node.address}{'' if node is first else f', joins {first.name}'}")
        return f"every node sees {len(self._nodes)} members alive"

    def _follow(self, node: LocalNode) -> None:
        """Keep what a node shows, from the message that it showed last."""
        shown = self._shown[node]
        position, dot = (shown[-1].position, shown[-1].message["dot"]) if shown else (0, None)
        stream = node.control.follow(position=position, dot=dot)

        async def keep() -> None:
            with suppress(DaemonGoneError):
                async for message in stream:
                    shown.append(message)

        self._followers[node] = asyncio.create_task(keep())

    def _dots(self, node: LocalNode) -> list[str]:
        return [shown.message["dot"] for shown in self._shown[node]]

    async def _everyone_speaks(self) -> str:
        await self._chatter(self._nodes, "hello")
        await until("every node shows what was said on any", self._all_shown)
        for node in self._nodes:
            self._sample(node, 1)
        return f"all {len(self._acknowledged)} messages are shown on every node"

    async def _chatter(self, speakers: list[LocalNode], words: str) -> None:
        says = [self._say(node, f"{words} {i}") for i in range(LINES_EACH) for node in speakers]
        await asyncio.gather(*says)

    async def _say(self, node: LocalNode, body: str) -> str:
        said = await node.control.say(ROOM, body, author=node.name)
        self._acknowledged.append(said.dot)
        return said.dot

    async def _all_shown(self) -> bool:
        return all(set(self._acknowledged) <= set(self._dots(node)) for node in self._nodes)

    async def _replies_come_after(self) -> str:
        for i in range(EXCHANGES):
            asks = self._nodes[i % len(self._nodes)]
            replies = self._nodes[(i + 1) % len(self._nodes)]
            question = await self._say(asks, f"question {i + 1}: is anyone there?")

            async def is_heard(replies: LocalNode = replies, question: str = question) -> bool:
                return question in self._dots(replies)

            await until(f"{replies.name} hears {asks.name}", is_heard)
            reply = await self._say(replies, f"reply {i + 1}: I am, {asks.name}")
            self._replies.append((question, reply))
        await until("every node shows questions and replies", self._all_shown)
        self._check_order()
        self._sample(self._nodes[-1], 2)
        return f"{EXCHANGES} replies, on {len(self._nodes)} nodes: none before its question"

    def _check_order(self) -> None:
        for node in self._nodes:
            place = {dot: i for i, dot in enumerate(self._dots(node))}
            for question, reply in self._replies:
                if place[reply] < place[question]:
                    raise broken("a reply is shown after what it replies to", f"on {node.name}")

    async def _one_is_killed(self) -> str:
        victim = self._victim
        victim.kill9()
        await self._followers[victim]
        others = [node for node in self._nodes if node is not victim]
        await self._chatter(others, f"without {victim.name}")

        async def is_noticed() -> bool:
            states = {(await node.states())[victim.name] for node in others}
            return states <= {"suspect", "dead"}

        await until(f"the others notice that {victim.name} is gone", is_noticed)
        for node in others:
            _fact(node, f"holds {victim.name} for {(await node.states())[victim.name]}")
        return f"{len(others) * LINES_EACH} messages said meanwhile"

    async def _it_returns(self) -> str:
        victim = self._victim
        missed = len(self._acknowledged) - len(set(self._dots(victim)))
        await victim.start(self._nodes[0].address)
        self._follow(victim)
        await self._chatter([victim], "back again")
        await until(f"{victim.name} shows what it missed", self._all_shown)
        await self._cluster.all_alive(*self._nodes)
        self._check_order()
        _fact(victim, f"shows the {missed} messages it missed")
        return "every acknowledged message is shown on every node"

    async def _same_history(self) -> str:
        await until("the nodes' roots become equal", self._cluster.is_converged)
        histories = await asyncio.gather(*(node.history() for node in self._nodes))
        for node, history in zip(self._nodes, histories, strict=True):
            _print(f"   {node.name:<6} {blake2b(history, digest_size=32).hexdigest()}")
            kept = {orjson.loads(line)["dot"] for line in history.splitlines()}
            if lost := set(self._acknowledged) - kept:
                raise broken("what was acknowledged is kept", f"{node.name} lacks {len(lost)}")
        if len(set(histories)) != 1:
            raise broken("every node has the same history", f"{len(set(histories))} differ")
        return f"{len(self._acknowledged)} messages acknowledged, none is missing anywhere"

    def _sample(self, node: LocalNode, lines: int) -> None:
        for shown in self._shown[node][-lines:]:
            author = visible(shown.message["author"])
            _fact(node, f"shows  {author}: {text.body_text(shown.message)}")


def _fact(node: LocalNode, words: str) -> None:
    author = text.author_text(node.name, colour=text.wants_colour())
    _print(f"   {author}{' ' * (7 - len(node.name))}{words}")


def _styled(words: str, code: str) -> str:
    return f"\x1b[{code}m{words}\x1b[0m" if text.wants_colour() else words


def _print(words: str) -> None:
    print(words, flush=True)
