"""Saying something once, whatever happens to the answer."""

from tests.daemon.cluster import Cluster, Node
from tests.daemon.wire import Wire


def say(number: int, client: str = "bot", **more: object) -> dict[str, object]:
    """A say that may be repeated."""
    return {
        "op": "say",
        "room": "ops",
        "body": f"{client} {number}",
        "once": [client, number],
    } | more


async def bodies(node: Node) -> list[str]:
    """What is in the room."""
    return [m["body"] for m in (await node.flc("log", "ops", "-n", "0", "--json")).records]


async def test_a_repeat_finds_the_first_dot(cluster: Cluster, wires: list[Wire]) -> None:
    """Sent at once, sent again, over another connection, after kill -9: one message, one dot."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    await wire.send(say(1), say(1), say(1))
    in_flight = [await wire.read() for _ in range(3)]
    later = await (await Wire.to(ann, wires)).ask(say(1))
    await ann.restart()
    after_restart = await (await Wire.to(ann, wires)).ask(say(1))

    dots = {answer["dot"] for answer in (*in_flight, later, after_restart)}
    assert dots == {in_flight[0]["dot"]}
    assert later["position"] == after_restart["position"] == in_flight[0]["position"]
    assert await bodies(ann) == ["bot 1"]


async def test_what_was_not_acknowledged_may_be_repeated(
    cluster: Cluster, wires: list[Wire]
) -> None:
    """A client whose daemon was killed says all again, and each is there once and in order."""
    (ann,) = await cluster.start(1)
    says = [say(number) for number in range(1, 301)]
    first, second = await Wire.to(ann, wires), None
    await first.send(*says)
    await first.read()
    await ann.restart()
    second = await Wire.to(ann, wires)
    await second.send(*says)
    dots = [(await second.read())["dot"] for _ in says]

    assert len(set(dots)) == 300
    assert await bodies(ann) == [f"bot {number}" for number in range(1, 301)]


async def test_clients_do_not_share_numbers(cluster: Cluster, wires: list[Wire]) -> None:
    """The same number of another client is another message."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    one, other = await wire.ask(say(1)), await wire.ask(say(1, "other"))
    assert one["dot"] != other["dot"]


async def test_a_repeat_can_wait_for_others(cluster: Cluster, wires: list[Wire]) -> None:
    """A repeated say with `wait` is answered with the receipts, too."""
    ann, ben = await cluster.start(2)
    wire = await Wire.to(ann, wires)
    first = await wire.ask(say(1))
    again = await wire.ask(say(1, wait="all", timeout=30))
    assert (again["ok"], again["dot"]) == (True, first["dot"])
    assert again["held_by"] == [f"{ben.name} ({ben.id})"]


async def test_numbers_that_fall_are_refused(cluster: Cluster, wires: list[Wire]) -> None:
    """A client's numbers rise: a lower new one is refused, in flight or later, and harms nobody."""
    (ann,) = await cluster.start(1)
    wire = await Wire.to(ann, wires)
    await wire.send(say(5), say(3), say(6))
    answers = [await wire.read() for _ in range(3)]
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert (await wire.ask(say(4)))["ok"] is False
    assert (await wire.ask(say(7)))["ok"] is True
    assert await bodies(ann) == ["bot 5", "bot 6", "bot 7"]
