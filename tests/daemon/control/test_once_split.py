"""The same numbers of a client again, in other groups: nothing is said twice."""

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import pytest

from flc_udp.config import ONCE_REMEMBERED
from tests.daemon.blocks import dots_in, many, with_bodies
from tests.daemon.cluster import Cluster, Node
from tests.daemon.wire import Wire

TOO_LARGE = "x" * 65_537

SPLITS: list[list[tuple[int, ...]]] = [
    [(1, 2, 3, 4, 5)],
    [(1,), (2,), (3,), (4,), (5,)],
    [(1, 2), (3, 4, 5)],
    [(1, 2, 3, 4), (5,)],
    [(1,), (2, 3, 4), (5,)],
]
"""Groups that the same five numbers are said in."""

OVERLAPPING: list[list[tuple[int, ...]]] = [
    [(1, 2, 3), (2, 3, 4, 5), (5,)],
    [(1, 2, 3, 4), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)],
    [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5), (4, 5), (3,)],
]
"""Groups of which some begin with numbers that others have already."""


def say(client: str, numbers: Sequence[int], **more: object) -> dict[str, Any]:
    """A say of one message or of many, each of which has a number of its client."""
    once = [client, numbers[0]]
    if len(numbers) == 1:
        body = f"{client} {numbers[0]}"
        return {"op": "say", "room": "ops", "body": body, "once": once} | more
    return many(*(f"{client} {number}" for number in numbers), once=once) | more


async def ask(wire: Wire, says: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All at once; their answers."""
    await wire.send(*says)
    return [await wire.read() for _ in says]


def named(
    client: str, groups: Sequence[Sequence[int]], answers: Sequence[dict[str, Any]]
) -> dict[int, str]:
    """{number: dot} of answers, which must not contradict each other."""
    dots: dict[int, str] = {}
    for numbers, answer in zip(groups, answers, strict=True):
        assert answer["ok"], (client, numbers, answer)
        for number, dot in zip(numbers, dots_in(answer), strict=True):
            assert dots.setdefault(number, dot) == dot, (client, number)
    return dots


async def history(node: Node) -> dict[str, str]:
    """{dot: body} of what is in the room."""
    records = (await node.flc("log", "ops", "-n", "0", "--json")).records
    return {record["dot"]: record["body"] for record in records}


async def test_every_other_split_finds_the_first_dots(cluster: Cluster, wires: list[Wire]) -> None:
    """Before the first answer, after it, over a second connection, after kill -9: the same dots."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    pairs = {f"c{n}": pair for n, pair in enumerate(product(SPLITS + OVERLAPPING, repeat=2))}
    first: dict[str, dict[int, str]] = {}
    for client, groups in pairs.items():
        whole = [*groups[0], *groups[1]]
        first[client] = named(client, whole, await ask(wire, [say(client, g) for g in whole]))
    for _ in range(2):
        wire = await Wire.to(ann, wires)
        for client, (groups, others) in pairs.items():
            for again in (others, groups):
                answers = await ask(wire, [say(client, numbers) for numbers in again])
                assert named(client, again, answers) == first[client]
                assert all(answer["again"] for answer in answers)
        await ann.restart()

    expected = {dot: f"{c} {n}" for c, dots in first.items() for n, dot in dots.items()}
    assert len(expected) == 5 * len(pairs)
    assert await history(ann) == expected


async def test_what_is_new_of_a_repeat_is_said(cluster: Cluster, wires: list[Wire]) -> None:
    """A repeat that goes on beyond the last number, in flight or later, says just the rest."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    first, longer, more = await ask(wire, [say("c", range(1, at)) for at in (4, 6, 7)])
    await ann.restart()
    wire = await Wire.to(ann, wires)
    across = await wire.ask(say("c", range(5, 9)))
    behind = await wire.ask(say("c", range(1, 9)))

    (old,), (also_old,), (span,) = first["spans"], longer["spans"], more["spans"]
    assert [text.partition(":")[2] for text in (old, also_old, span)] == ["1-3", "1-5", "1-6"]
    assert [answer["position"] for answer in (first, longer, more)] == [3, 5, 6]
    assert all("again" not in answer for answer in (first, longer, more, across))
    assert (across["ok"], across["position"]) == (True, 8)
    assert behind["again"] is True
    assert dots_in(behind)[4:] == dots_in(across)
    assert dots_in(behind)[:6] == dots_in(more)
    # This run has a log of its own, so the messages of one say lie in two logs.
    assert len(across["spans"]) == len(behind["spans"]) == 2
    assert await history(ann) == dict(
        zip(dots_in(behind), (f"c {n}" for n in range(1, 9)), strict=True)
    )


@pytest.mark.parametrize("in_flight", [True, False])
async def test_numbers_below_the_first_are_refused_alone(
    cluster: Cluster, wires: list[Wire], in_flight: bool
) -> None:
    """A repeat that begins before the first number: those before it are refused, and listed."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    says = [say("c", (3, 4, 5)), say("c", (1, 2, 3, 4, 5)), say("c", (2, 3, 4, 5, 6))]
    if in_flight:
        first, repeat, beyond = await ask(wire, says)
    else:
        first, repeat, beyond = [await wire.ask(each) for each in says]

    assert first["ok"] is True
    assert (repeat["ok"], repeat["refused"], repeat["spans"]) == (False, [0, 1], first["spans"])
    assert "2 of 5 messages" in repeat["error"]
    assert repeat["hint"]
    assert (beyond["ok"], beyond["refused"]) == (False, [0])
    assert dots_in(beyond)[:3] == dots_in(first)
    assert beyond["position"] == 4
    assert list((await history(ann)).values()) == [f"c {number}" for number in range(3, 7)]


async def test_a_number_that_is_too_old_is_refused_alone(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """So many are remembered; what is older is refused by its place, whatever stands beside it."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    whole = await wire.ask(say("c", range(1, ONCE_REMEMBERED + 1)))
    more = await wire.ask(say("c", range(ONCE_REMEMBERED + 1, ONCE_REMEMBERED + 7)))
    repeat = await wire.ask(say("c", range(1, 11)))
    gone, kept = await ask(wire, [say("c", (6,)), say("c", (7,))])
    all_gone = await wire.ask(say("c", range(1, 6)))

    assert (whole["ok"], more["ok"]) == (True, True)
    assert (repeat["ok"], repeat["refused"]) == (False, [0, 1, 2, 3, 4, 5])
    assert dots_in(repeat) == dots_in(whole)[6:10]
    assert "6 of 10 messages" in repeat["error"]
    assert (gone["ok"], kept["ok"], kept["dot"]) == (False, True, dots_in(whole)[6])
    assert (all_gone["ok"], all_gone["spans"], all_gone["position"]) == (False, [], None)
    assert all_gone["refused"] == [0, 1, 2, 3, 4]
    assert len(await history(ann)) == ONCE_REMEMBERED + 6


async def test_a_refused_body_has_no_number(cluster: Cluster, wires: list[Wire]) -> None:
    """A body that is too large stays refused in a repeat, and its number is new if it was the last.

    So a client can say something else under it, while nothing before it is said twice.
    """
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    request = many("one", TOO_LARGE, "three", TOO_LARGE, once=["c", 1])
    first, at_once = await ask(wire, [request, request])
    later = await wire.ask(request)
    await ann.restart()
    wire = await Wire.to(ann, wires)
    after_restart = await wire.ask(request)
    instead = await wire.ask(many("three", "four", "five", once=["c", 3]))

    assert (first["ok"], first["refused"]) == (False, [1, 3])
    for repeat in (at_once, later, after_restart):
        assert (repeat["ok"], repeat["refused"]) == (False, [1, 3])
        assert (repeat["spans"], repeat["position"]) == (first["spans"], first["position"])
    assert (instead["ok"], instead["position"]) == (True, 4)
    assert list((await history(ann)).values()) == ["one", "three", "four", "five"]


async def test_the_groups_may_change_after_a_kill(cluster: Cluster, wires: list[Wire]) -> None:
    """A client whose daemon was killed groups all again: each is there once and in order."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    await wire.send(*(say("c", range(at, at + 7)) for at in range(1, 701, 7)))
    before = dots_in(await wire.read())
    await ann.restart()
    wire = await Wire.to(ann, wires)
    groups = [range(at, at + 50) for at in range(1, 701, 50)]
    dots = named("c", groups, await ask(wire, [say("c", numbers) for numbers in groups]))

    assert [dots[number] for number in range(1, 8)] == before
    assert len(set(dots.values())) == 700
    assert await history(ann) == {dot: f"c {number}" for number, dot in dots.items()}


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_repeated_when(cluster: Cluster, wires: list[Wire], seed: int) -> None:
    """Drawn from a seed: groups that go on, overlap or repeat, a second connection, and kills.

    Each number has one dot for ever, which holds its body, and nothing is said twice. Some bodies
    are refused whenever they come, and nothing else is.
    """
    chance = Random(seed)
    ann = cluster.node(environ={"FLC_COMMIT_MESSAGES_MAX": str(chance.choice((1, 3, 50, 4_096)))})
    await ann.start()
    bad = {number for number in range(1, 5_000) if chance.random() < 0.02}
    dots: dict[int, str] = {}

    async def check(wire: Wire, groups: Sequence[range]) -> None:
        for numbers in groups:
            answer = await wire.read()
            assert answer.get("refused", []) == [p for p, n in enumerate(numbers) if n in bad]
            good = [number for number in numbers if number not in bad]
            assert all(
                dots.setdefault(number, dot) == dot
                for number, dot in zip(good, dots_in(answer), strict=True)
            )

    def request(numbers: range) -> dict[str, Any]:
        bodies = (TOO_LARGE if number in bad else f"c {number}" for number in numbers)
        return many(*bodies, once=["c", numbers[0]])

    newest = 0
    for _ in range(4):
        wire, other = await Wire.to(ann, wires), await Wire.to(ann, wires)
        for step in range(20):
            said, groups = newest, []
            for _ in range(chance.randrange(1, 8)):
                begins = max(newest + 1 - chance.choice((0, 0, 1, 2, 5, 12)), 1)
                groups.append(range(begins, begins + chance.choice((1, 1, 2, 3, 8, 20))))
                newest = max(newest, groups[-1][-1])
            await wire.send(*map(request, groups))
            repeated = [range(max(said - chance.randrange(30), 1), said + 1)] if said else []
            await other.send(*map(request, repeated))
            if step == 19:
                await ann.restart()
                wire = other = await Wire.to(ann, wires)
                await wire.send(*map(request, [*groups, *repeated]))
            await check(wire, groups)
            await check(other, repeated)

    assert await history(ann) == {dot: f"c {number}" for number, dot in dots.items()}


async def test_a_repeat_of_many_waits_for_others(cluster: Cluster, wires: list[Wire]) -> None:
    """With `wait` it is answered when the others hold it, though it was said without."""
    ann, ben = await cluster.start(2)
    wire = await Wire.to(ann, wires)
    first = await wire.ask(say("c", (1, 2, 3)))
    again = await wire.ask(say("c", (1, 2, 3), wait="all", timeout=30))
    beyond = await wire.ask(say("c", (2, 3, 4), wait=1, timeout=30))

    for answer in (again, beyond):
        assert (answer["ok"], answer["held_by"]) == (True, [f"{ben.name} ({ben.id})"])
    assert again["spans"] == first["spans"]
    assert (await ben.ask("digest"))["messages"] == 4


async def test_two_clients_have_numbers_of_their_own(cluster: Cluster, wires: list[Wire]) -> None:
    """Their says alternate over one connection; blocks hold messages of both."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    says = [say(client, numbers) for numbers in ((1, 2), (3,), (4, 5)) for client in "ab"]
    first, again = await ask(wire, says), await ask(wire, says)

    said = {}
    for request, answer, repeat in zip(says, first, again, strict=True):
        assert dots_in(repeat) == dots_in(answer)
        said |= with_bodies(answer, request.get("bodies") or [request["body"]])
    assert len(said) == 10
    assert await history(ann) == said
