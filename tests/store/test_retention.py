"""Whatever nodes hear, prune and take from each other, they hold what the model says."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flc_udp.config import CLOCK_STAMP_LIMIT, WALL_MS_LIMIT
from flc_udp.model.block import decode
from flc_udp.model.dots import Dot
from flc_udp.model.history import BaseLog, BaseRoom, Edge, Head
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.log import Log
from tests.model import stories
from tests.model.stories import Story, variant
from tests.store.nodes import Node

NODES = range(3)

numbers = st.sampled_from(NODES)
choices = st.lists(st.integers(0, 9), min_size=1, max_size=6)
acts = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 50, 200]),
        numbers,
        st.one_of(
            st.tuples(st.just("deliver"), choices),
            st.tuples(st.just("deliver"), choices),
            st.tuples(st.just("retain"), st.integers(1, 6)),
            st.tuples(st.just("adopt"), numbers),
            st.tuples(st.just("reopen"), st.none()),
        ),
    ),
    min_size=6,
    max_size=25,
)
"""After how many instructions the disk fails, if it does, and which node does what."""


steps = st.lists(
    st.tuples(
        st.sampled_from(stories.AUTHORS[:3]),
        st.sampled_from(stories.ROOMS),
        st.none() | st.integers(0, 40),
    ),
    min_size=8,
    max_size=20,
)
"""As those of stories, but enough to prune of."""


def play(story: Story, acts: list[tuple[int, int, tuple[str, Any]]]) -> list[Node]:
    """Nodes after what they did, checked at each step."""
    nodes = [Node(story) for _ in NODES]
    for instructions, number, (act, how) in acts:
        node = nodes[number]
        match act:
            case "deliver":
                for choice in how:
                    if waiting := node.waiting():
                        node.deliver(waiting[choice % len(waiting)])
            case "retain":
                node.fail(instructions, node.retain, how)
            case "adopt":
                node.fail(instructions, node.adopt, nodes[how])
            case "reopen":
                node.reopen()
        node.check()
    return nodes


@settings(max_examples=100, deadline=None)
@given(steps, stories.counts, acts)
def test_whatever_is_pruned_and_adopted_the_rest_is_whole(
    steps: list, counts: list[int], acts: list
) -> None:
    """Heads, frontiers, base and what is held are as by sets, after each step, and fsck is content.

    And once all heard everything, they hold the same from the highest floor on.
    """
    nodes = play(Story(steps, counts), acts)
    for node in nodes:
        node.catch_up()
        node.check()
    floor = max(node.floor for node in nodes)
    above = [{m.dot for m in node.held if m.stamp >= floor} for node in nodes]
    assert above[0] == above[1] == above[2]
    frontiers = [node.log.load().frontiers for node in nodes]
    assert frontiers[0] == frontiers[1] == frontiers[2]
    for node in nodes:
        node.disk.close()


@pytest.mark.parametrize("seed", range(40))
def test_a_long_story_of_three_nodes(seed: int) -> None:
    """The same, drawn evenly: what only a base of a base, half pruned, would show."""
    chance = Random(seed)
    steps = [
        (chance.choice(stories.AUTHORS), chance.choice(stories.ROOMS), chance.choice([None, n]))
        for n in (chance.randrange(40) for _ in range(30))
    ]
    story = Story(steps, chance.choices([1, 1, 2, 5], k=len(steps)))
    play(story, [draw(chance) for _ in range(40)])


@pytest.mark.parametrize("cause", [Dot(stories.log_of("bob"), 1), Dot(b"nowhere!", 7)])
def test_a_cause_that_is_not_of_the_room_holds_nothing_up(log: Log, cause: Dot) -> None:
    """A member may name a message of another room, or one that lies below an adopted base."""
    story = Story()
    said = [story.say("bob", "ops"), story.say("ann", "lobby"), story.say("ann", "lobby")]
    odd = variant(said[2], causes=(cause,))
    log.append([*said[:2], odd])
    while log.retain(arrived_before_ms=None, bytes_max=0, messages_max=1).more:
        pass
    assert log.load().frontiers["lobby"] == {odd.log: Edge(2, odd.stamp)}
    assert [
        (base.log, [room.room for room in base.rooms]) for base in log.reader().base(b"", 9)
    ] == [
        (odd.log, ["lobby"]),
        (said[0].log, ["ops"]),
    ]


def draw(chance: Random) -> tuple[int, int, tuple[str, Any]]:
    """An act."""
    acts = {
        "deliver": [chance.randrange(10) for _ in range(chance.randint(1, 4))],
        "retain": chance.randint(1, 6),
        "adopt": chance.choice(NODES),
        "reopen": None,
    }
    act = chance.choices(list(acts), [6, 3, 2, 1])[0]
    return chance.choice([0, 0, 0, 50, 200]), chance.choice(NODES), (act, acts[act])


def end_retention(log: Log, **limits: int | None) -> None:
    """Prune as long as there is anything to prune by these limits."""
    limits = {"arrived_before_ms": None, "bytes_max": None} | limits
    while log.retain(**limits).more:
        pass


def test_a_floor_that_was_taken_deletes_nothing(log: Log) -> None:
    """It says where history is whole. What is held below it goes by the limits, as anything."""
    story = Story()
    story.say("ann", "ops")
    story.say("bob", "ops")
    log.append(story.said, (), 5_000)
    made_up = BaseLog(b"made up!", Head(1, bytes(8), 1 << 58), None, (BaseRoom("x", 1, 1 << 58),))
    history = log.adopt((1 << 58) + 1, [made_up])
    assert (history.floor, history.pruned_below) == ((1 << 58) + 1, 0)
    end_retention(log, arrived_before_ms=4_000)
    assert [encoded for _, encoded in log.reader().after(0, None, 9)] == [
        block.encoded for block in story.said
    ]

    log.append([story.say("ann", "ops", wall=9_000)], (), 200_000)
    end_retention(log, arrived_before_ms=100_000)
    assert [block.dot.seq for block in map(decode, kept(log))] == [2]
    assert log.load().pruned_below == story.said[1].stamp + 1
    assert log.load().floor == (1 << 58) + 1
    assert list(Fsck(log.connection).findings()) == []


def kept(log: Log) -> list[bytes]:
    """The blocks that are held."""
    return [encoded for _, encoded in log.reader().after(0, None, 9)]


@pytest.mark.parametrize("limits", [{"arrived_before_ms": 1 << 50}, {"bytes_max": 0}])
@pytest.mark.parametrize(("wall", "stamp_limit"), [(WALL_MS_LIMIT, None), (9_000, 8_000 << 16)])
def test_a_stamp_far_ahead_of_the_clock_carries_no_floor(
    log: Log, limits: dict[str, int], wall: int, stamp_limit: int | None
) -> None:
    """Its message stays. If the floor rose above it, nothing could be said or kept any more."""
    if stamp_limit is not None:
        limits = {**limits, "stamp_limit": stamp_limit}
    story = Story()
    plain = story.say("ann", "ops", wall=7_000)
    far = story.say("bob", "lobby", wall=wall)
    log.append([plain, far], (), 5_000)
    log.append([story.say("cyd", "lobby", wall=9_000)], (), 200_000)
    end_retention(log, **limits)

    assert far.encoded in kept(log)
    assert plain.encoded not in kept(log)
    assert log.load().floor <= (stamp_limit or CLOCK_STAMP_LIMIT)
