"""An insider gives two contents to one name: each side keeps its own, and nobody is cut off."""

import pytest

from flc_udp.core.notices import LogForked
from flc_udp.model.block import Block, pack_body, write
from flc_udp.wire.packets import Digest, Packet, Pull, Ranges, Replay, Rumor
from tests.core.dialogue import WALL, Talk
from tests.core.insider.forged import LOG, forge, push

STAMP = WALL << 16


def branch(name: str, length: int, room: str = "lobby") -> list[Block]:
    """The first messages of a log, of which another node gets others."""
    said = [forge(f"{name}1", stamp=STAMP, room=room)]
    for number in range(2, length + 1):
        stamp = STAMP + number
        said.append(forge(f"{name}{number}", after=said[-1], stamp=stamp, room=room))
    return said


def forked(lengths: tuple[int, int]) -> Talk:
    """Ann keeps one branch, and the others another one, of these lengths."""
    talk = Talk("ann", "bob", "cyd")
    for party in talk.parties:
        party.forked.add(LOG)
    talk.meet()
    talk.cut("ann")
    push(talk["ann"], *branch("x", lengths[0]))
    push(talk["bob"], *branch("y", lengths[1]))
    push(talk["cyd"], *branch("y", lengths[1]))
    talk.heal()
    return talk


LENGTHS = [(1, 1), (2, 1), (1, 2), (1, 5), (5, 1), (3, 4)]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("restarts", [False, True])
def test_everybody_reads_what_honest_ones_say(lengths: tuple[int, int], *, restarts: bool) -> None:
    """In the room of the fork and in any other, of both sides, and after restarts."""
    talk = forked(lengths)
    said = []
    for turn in range(6):
        if restarts and turn == 3:
            for party in talk.parties:
                talk.restart(party.name, "bob" if party.name == "ann" else "ann")
            talk.run(3_000)
        for name in ("ann", "bob", "cyd"):
            said += [talk.say(name, f"{name} {room} {turn}", room) for room in ("lobby", "ops")]
            talk.run(200)
    talk.run(30_000)

    for party in talk.parties:
        assert {block.bodies[0] for block in said} <= set(party.history())
        assert party.facts.repair.holdback_messages == 0


@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_fork_is_told_once_and_costs_little(lengths: tuple[int, int]) -> None:
    """Roots differ for ever, so it is looked at again: every 16 s, and nothing is pulled twice."""
    talk = forked(lengths)
    for name in ("ann", "bob", "cyd"):
        talk.say(name, "hi")
    talk.run(60_000)
    told = [len(party.told(LogForked)) for party in talk.parties]
    before = talk.sent.copy()
    talk.run(160_000)

    assert told == [len(party.told(LogForked)) for party in talk.parties]
    assert max(told) <= max(lengths)
    sent = talk.sent - before
    kinds: tuple[type[Packet], ...] = (Ranges, Digest)
    assert sum(sent[kind.__name__] for kind in kinds) <= 3 * 3 * 12
    assert sent[Pull.__name__] + sent[Replay.__name__] <= 12


def test_a_branch_that_was_refused_hides_nothing_of_the_own_one() -> None:
    """What follows on ann's side reaches her by digest, though the other side is as long."""
    talk = Talk("ann", "bob", "cyd")
    for party in talk.parties:
        party.forked.add(LOG)
    talk.meet()
    talk.cut("ann")
    own, other = branch("x", 3), branch("y", 3)
    push(talk["ann"], own[0])
    push(talk["bob"], *other)
    talk.heal()
    talk.kill("cyd")
    talk.say("bob", "on y")
    talk.run(20_000)
    assert "on y" in talk["ann"].shown
    talk.kill("bob")
    talk["cyd"].disk[:] = own
    talk.restart("cyd", "ann")
    talk.run(60_000)

    assert [block.encoded for block in talk["ann"].disk if block.log == LOG] == [
        block.encoded for block in own
    ]


@pytest.mark.parametrize("count", [1, 900])
def test_a_forged_continuation_of_a_log_hides_nothing_of_it(count: int) -> None:
    """The insider goes on with ann's log in a wrong way; her next messages come all the same."""
    talk = Talk("ann", "bob", "cyd")
    talk.meet()
    first = talk.say("ann", "first")
    talk.run(100)
    forged = write(
        log=first.log,
        first=2,
        room="lobby",
        author="eve",
        wall=first.wall,
        stamp=first.stamp + 1,
        causes=(),
        parent=b"no hash!",
        bodies=[pack_body("")] * count,
    )
    push(talk["bob"], forged)
    talk.lose(Rumor)
    talk.say("ann", "second")
    talk.run(50)
    talk.heal()
    talk.say("ann", "third")
    talk.run(20_000)

    assert talk["bob"].shown == ["first", "second", "third"]
