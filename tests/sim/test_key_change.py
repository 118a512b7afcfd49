"""A change of keys under a virtual clock: node by node, with loss, and nothing unheard."""

import pytest

from flc_udp.model.errors import Drop
from flc_udp.sim.network import Faults
from flc_udp.sim.world import World
from flc_udp.wire.ring import add, remove, use
from flc_udp.wire.seal import KEY_BYTES, OPEN, Keyring, keyring

A, B = b"a" * KEY_BYTES, b"b" * KEY_BYTES

PASS_MS = 300
"""Between two nodes' steps: longer than any datagram is on its way."""


def rekey(world: World, name: str, ring: Keyring) -> None:
    """What `flc keys` makes a node's seal do."""
    world.machines[name].running._seal.rekey(ring)  # noqa: SLF001  # the daemon holds the seal itself


@pytest.mark.parametrize("old", [A, OPEN], ids=["A to B", "open to sealed"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_datagram_is_unheard_for_its_key(seed: int, old: bytes) -> None:
    """Each step on all nodes before the next: all that is said is everywhere in the end."""
    ring = keyring((old,), "sim")
    steps = [added := add(ring, B)]
    steps.append(used := use(added, added.keys[1].name))
    steps.append(remove(used, ring.keys[0].name))
    with World("abcd", seed=seed, faults=Faults(loss=0.1)) as world:
        for name in "abcd":
            rekey(world, name, ring)
        world.run(2_000)
        before = {name: world.machines[name].running.drops()[Drop.KEY_UNKNOWN] for name in "abcd"}
        for number, step in enumerate(steps):
            for name in "abcd":
                rekey(world, name, step)
                world.say(name, "ops", f"{name} at step {number}")
                world.run(PASS_MS)
        world.settle()
        world.run(20_000)  # All have been probed by all.

        for name in "abcd":
            assert len(world.history(name, "ops")) == 12
            assert world.machines[name].running.drops()[Drop.KEY_UNKNOWN] == before[name]
            node = world.machines[name].running
            heard = {node.hearing.key_of(row.id) for row in node.live_rows()}
            assert heard == {steps[-1].keys[0].id}


def test_a_node_that_missed_the_change_is_alone_until_it_has_the_key() -> None:
    """Nothing of it is heard and nothing reaches it; then it takes in what it missed."""
    with World("abc", seed=4) as world:
        world.settle()
        for name in "ab":
            rekey(world, name, keyring((B,), "sim"))
        world.say("a", "ops", "without c")
        world.run(2_000)
        assert world.shown("c", "ops") == []
        assert world.machines["c"].running.drops()[Drop.KEY_UNKNOWN]

        rekey(world, "c", keyring((B,), "sim"))
        world.settle()
        assert world.history("c", "ops") == ["without c"]
