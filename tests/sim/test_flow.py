"""Plays at full rate: the tree has one copy for each node, and who is slow slows nobody else."""

from collections.abc import Sequence

import pytest

from flc_udp.model.dots import Dot
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US
from flc_udp.sim.network import Faults
from flc_udp.sim.plan import Plan
from flc_udp.sim.play import Play
from flc_udp.sim.world import World

NAMES = "abcdefghi"


@pytest.mark.parametrize(
    ("rate", "authors", "seed", "busy"), [(700, 0, 1, 1_000), (900, 1, 1, 1_000)]
)
def test_nine_nodes_at_full_rate_settle_to_a_tree(
    rate: int, authors: int, seed: int, busy: int
) -> None:
    """Each node hears each message about once, and nothing is repaired that was not lost.

    Each processor is busy for most of the time. These are too long for every day, and were played
    for three seconds after three more, with the same result: (3500, 0, 1, 200), (700, 0, 2, 1000)
    and (600, 0, 3, 1000).
    """
    plan = Plan(nodes=9, rate=rate, authors=authors, seed=seed, busy=busy, seconds=1, warm_up=2)
    figures = Play(plan).run()

    assert figures.messages > rate / 2
    assert figures.copies_per_node is not None
    assert figures.copies_per_node <= 1.1
    assert figures.repaired_percent is not None
    assert figures.repaired_percent <= 1
    assert figures.latency_p99_ms is not None
    assert figures.latency_p99_ms <= 200


class Latencies:
    """How long each message takes to each node, in ms."""

    def __init__(self, world: World) -> None:
        self.of_node: list[list[int]] = [[] for _ in world.machines]
        self._said: dict[Dot, int] = {}
        self._world = world
        world.watchers.append(self._watch)

    def _watch(self, number: int, messages: Sequence[Message]) -> None:
        now = self._world.heap.now
        for message in messages:
            said_at = self._said.setdefault(message.dot, now)  # Its author shows it first.
            self.of_node[number].append((now - said_at) // MS_US)


def test_one_slow_node_slows_no_other_and_catches_up() -> None:
    """Its processor cannot do what the others say: they wait for nothing, and it has all at last.

    It takes 12 ms for a message, and there are 200 a second.
    """
    with World(NAMES, 1, Faults(block_us=1_000)) as world:
        world.settle()
        world.machines["i"].busy_factor = 12
        latencies = Latencies(world)
        for number in range(400):
            world.say(NAMES[number % 8], "ops", str(number))
            world.run(5)
        world.run(100)

        assert all(len(shown) == 400 for shown in latencies.of_node[:8])
        assert len(latencies.of_node[8]) < 300
        late = sorted(ms for shown in latencies.of_node[:8] for ms in shown)
        assert late[len(late) * 99 // 100] <= 100
        world.settle()
        assert len(latencies.of_node[8]) == 400
