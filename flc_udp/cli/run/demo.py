"""`flc demo`: the promises of flc in one terminal, kept by real daemons on this machine.

Promise: exit 0 says that each of them was checked and held; otherwise the error names the one that
did not. Nothing waits for a fixed time: each step goes on when what it is about has happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from hashlib import blake2b

from flc_udp.cli import text
from flc_udp.cli.run.cluster import Cluster, Node, broken, until

ROOM = "lobby"

NAMES = ("ann", "ben", "cho", "dee", "eli", "fay", "gus", "hal")

NODES_MIN, NODES_MAX = 3, 32
"""Fewer leave nobody to talk while one is down; more are for the simulator."""

LINES_EACH = 4
"""Said by each node in one step."""

EXCHANGES = 6
"""Questions with a reply from another node."""


def add_demo(parser: argparse.ArgumentParser) -> None:
    """`flc demo`."""
    parser.add_argument(
        "--nodes", metavar="N", type=_nodes, default=NODES_MIN, help="from 3 to 32 (default 3)"
    )


def demo(args: argparse.Namespace) -> int:
    """Tell the story; whatever happens, its nodes and their directories are gone afterwards."""
    names = [(*NAMES, *(f"node{i}" for i in range(NODES_MAX)))[i] for i in range(args.nodes)]
    with Cluster(names) as cluster:
        asyncio.run(Story(cluster.nodes).tell())
    return 0


class Story:
    """The steps, in order, each of which says what it does and what it found."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._acknowledged: list[str] = []
        self._replies: list[tuple[str, str]] = []
        self._began = self._step_began = time.monotonic()

    async def tell(self) -> None:
        """All of it; raises FlcError at the first promise that does not hold."""
        self._line(f"{len(self._nodes)} nodes on this machine, no server in the middle.")
        await self._find_each_other()
        await self._everyone_speaks()
        await self._replies_come_after()
        victim = self._nodes[-1]
        await self._one_is_killed(victim)
        await self._it_returns(victim)
        await self._same_history()
        for node in self._nodes:
            await node.client.close()
        seconds = time.monotonic() - self._began
        self._line(f"\nEvery promise held, in {seconds:.1f} s. Your own node: flc run")

    async def _find_each_other(self) -> None:
        self._step("Nodes start and find each other")
        first, *others = self._nodes
        first.start([])
        await first.answers()
        for node in others:
            node.start([first.address])
        for node in others:
            await node.answers()
        for node in self._nodes:
            self._fact(node, f"{node.address}{'' if node is first else f', joins {first.name}'}")
        await until("every node sees every member alive", self._all_alive)
        self._found(f"every node sees {len(self._nodes)} members alive")

    async def _all_alive(self) -> bool:
        states = [await node.states() for node in self._nodes]
        return all(list(s.values()) == ["alive"] * len(self._nodes) for s in states)

    async def _everyone_speaks(self) -> None:
        self._step("Each says something on its own node")
        await self._chatter(self._nodes, "hello")
        await until("every node shows what was said on any", self._all_shown)
        self._sample(self._nodes)
        self._found(f"all {len(self._acknowledged)} messages are shown on every node")

    async def _chatter(self, speakers: list[Node], words: str) -> None:
        says = [self._say(node, f"{words} {i}") for i in range(LINES_EACH) for node in speakers]
        await asyncio.gather(*says)

    async def _say(self, node: Node, body: str) -> str:
        said = await node.client.say(ROOM, body, author=node.name)
        self._acknowledged.append(said.dot)
        return said.dot

    async def _all_shown(self) -> bool:
        return all(set(self._acknowledged) <= set(node.dots_shown) for node in self._nodes)

    async def _replies_come_after(self) -> None:
        self._step("A reply is shown after what it replies to, everywhere")
        for i in range(EXCHANGES):
            asks = self._nodes[i % len(self._nodes)]
            replies = self._nodes[(i + 1) % len(self._nodes)]
            question = await self._say(asks, f"question {i + 1}: is anyone there?")
            await until(f"{replies.name} hears {asks.name}", lambda: _shows(replies, question))  # noqa: B023  # awaited in the same round
            reply = await self._say(replies, f"reply {i + 1}: I am, {asks.name}")
            self._replies.append((question, reply))
        await until("every node shows questions and replies", self._all_shown)
        self._check_order()
        self._sample(self._nodes[-1:], lines=2)
        self._found(f"{EXCHANGES} replies, on {len(self._nodes)} nodes: none before its question")

    def _check_order(self) -> None:
        for node in self._nodes:
            place = {dot: i for i, dot in enumerate(node.dots_shown)}
            for question, reply in self._replies:
                if place[reply] < place[question]:
                    raise broken("a reply is shown after what it replies to", f"on {node.name}")

    async def _one_is_killed(self, victim: Node) -> None:
        self._step(f"kill -9 {victim.name}; the others go on talking")
        await victim.kill()
        others = [node for node in self._nodes if node is not victim]
        await self._chatter(others, f"without {victim.name}")
        states: dict[str, str] = {}

        async def noticed() -> bool:
            states.update({node.name: (await node.states())[victim.name] for node in others})
            return all(state in ("suspect", "dead") for state in states.values())

        await until(f"the others notice that {victim.name} is gone", noticed)
        for node in others:
            self._fact(node, f"holds {victim.name} for {states[node.name]}")
        self._found(f"{len(others) * LINES_EACH} messages said meanwhile")

    async def _it_returns(self, victim: Node) -> None:
        self._step(f"{victim.name} returns with the same directory and catches up")
        missed = len(self._acknowledged) - len(set(victim.dots_shown))
        victim.start([self._nodes[0].address])
        await victim.answers()
        await self._chatter([victim], "back again")
        await until(f"{victim.name} shows what it missed", self._all_shown)
        await until("every node sees every member alive", self._all_alive)
        self._check_order()
        self._fact(victim, f"shows the {missed} messages it missed")
        self._found("every acknowledged message is shown on every node")

    async def _same_history(self) -> None:
        self._step("The same history everywhere: BLAKE2b of `flc log -n 0 --json`")
        await until("the nodes' roots become equal", self._roots_equal)
        histories = await asyncio.gather(*(node.history() for node in self._nodes))
        hashes = {blake2b(history, digest_size=32).hexdigest() for history in histories}
        for node, history in zip(self._nodes, histories, strict=True):
            self._line(f"   {node.name:<6} {blake2b(history, digest_size=32).hexdigest()}")
            kept = {json.loads(line)["dot"] for line in history.splitlines()}
            if lost := set(self._acknowledged) - kept:
                raise broken("what was acknowledged is kept", f"{node.name} lacks {len(lost)}")
        if len(hashes) != 1:
            raise broken("every node has the same history", f"{len(hashes)} differ")
        self._found(f"{len(self._acknowledged)} messages acknowledged, none is missing anywhere")

    async def _roots_equal(self) -> bool:
        return len({(await node.client.digest())["root"] for node in self._nodes}) == 1

    def _step(self, title: str) -> None:
        self._step_began = time.monotonic()
        self._line(f"\n{_styled(title, '1')}")

    def _fact(self, node: Node, words: str) -> None:
        author = text.author_text(node.name, colour=text.wants_colour())
        self._line(f"   {author}{' ' * (7 - len(node.name))}{words}")

    def _found(self, words: str) -> None:
        seconds = f"{time.monotonic() - self._step_began:.1f} s"
        self._line(f" {_styled('ok', '32')} {words:<68}{seconds:>7}")

    def _sample(self, nodes: list[Node], lines: int = 1) -> None:
        for node in nodes:
            for shown in node.shown[-lines:]:
                author = text.visible(shown.message["author"])
                self._fact(node, f"shows  {author}: {text.body_text(shown.message)}")

    def _line(self, words: str) -> None:
        print(words, flush=True)


async def _shows(node: Node, dot: str) -> bool:
    return dot in node.dots_shown


def _styled(words: str, code: str) -> str:
    return f"\x1b[{code}m{words}\x1b[0m" if text.wants_colour() else words


def _nodes(words: str) -> int:
    if words.isascii() and words.isdecimal() and NODES_MIN <= int(words) <= NODES_MAX:
        return int(words)
    raise argparse.ArgumentTypeError(f"{words!r} is not a number from {NODES_MIN} to {NODES_MAX}")
