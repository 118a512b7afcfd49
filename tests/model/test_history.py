from hypothesis import given

from flc_udp.model.dots import Dot
from flc_udp.model.history import Edge, Frontier, advance
from tests.model.stories import ROOMS, Story, counts, log_of, steps


@given(steps, counts)
def test_a_frontier_is_the_set_of_maximal_dots(steps: list, counts: list[int]) -> None:
    """After every block the frontier holds exactly the dots of the room nothing comes after."""
    story = Story(steps, counts)
    stamps = {message.dot: message.stamp for block in story.said for message in block.messages()}
    frontiers: dict[str, Frontier] = {room: {} for room in ROOMS}
    so_far: list[Dot] = []
    for block in story.said:
        advance(frontiers[block.room], block)
        so_far += [message.dot for message in block.messages()]

        assert {
            dot.log: Edge(dot.seq, stamps[dot]) for dot in story.maximal(so_far, block.room)
        } == frontiers[block.room]


def test_a_message_covers_its_causes_and_leaves_what_is_concurrent() -> None:
    """Two who spoke unheard of each other both stand until somebody has heard both."""
    story = Story()
    ann, bob = story.say("ann"), story.say("bob")
    frontier: Frontier = {}
    advance(frontier, ann)
    advance(frontier, bob)

    assert {log_of("ann"), log_of("bob")} == set(frontier)

    story.hear("cyd", ann, bob)
    cyd = story.say("cyd")
    advance(frontier, cyd)

    assert {log_of("cyd"): Edge(1, cyd.stamp)} == frontier


def test_a_cause_older_than_the_edge_does_not_cover_it() -> None:
    """A reply to a log's first message leaves that log's second one standing."""
    story = Story()
    first = story.say("ann")
    second = story.say("ann")
    story.hear("bob", first)
    reply = story.say("bob")
    frontier: Frontier = {}
    for block in (first, second, reply):
        advance(frontier, block)

    assert {
        log_of("ann"): Edge(2, second.stamp),
        log_of("bob"): Edge(1, reply.stamp),
    } == frontier


def test_it_notes_whose_edges_came_or_went() -> None:
    """The covered ones with the seqs they had, and the block's own; of others nothing."""
    story = Story()
    ann, bob, dan = (story.say(author) for author in ("ann", "bob", "dan"))
    frontier: Frontier = {}
    for block in (ann, bob, dan):
        advance(frontier, block)
    story.hear("cyd", ann, bob)
    moved: dict[bytes, int] = {log_of("eve"): 7}
    advance(frontier, story.say("cyd"), moved)

    assert {log_of("ann"): 1, log_of("bob"): 1, log_of("cyd"): 1, log_of("eve"): 7} == moved


def test_the_last_message_of_a_block_is_the_edge() -> None:
    """The others are covered at once: by name it takes the place of what their author had heard."""
    story = Story()
    ann = story.say("ann", "lobby", "1", "2")
    story.hear("bob", ann)
    bob = story.say("bob", "lobby", "3", "4", "5")
    frontier: Frontier = {}
    advance(frontier, ann)

    assert {log_of("ann"): Edge(2, ann.stamp)} == frontier

    moved: dict[bytes, int] = {}
    advance(frontier, bob, moved)

    assert {log_of("bob"): Edge(3, bob.stamp)} == frontier
    assert {log_of("ann"): 2, log_of("bob"): 3} == moved
