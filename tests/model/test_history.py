from hypothesis import given

from flc_udp.model.history import Edge, Frontier, advance
from tests.model.stories import ROOMS, Story, log_of, steps


@given(steps)
def test_a_frontier_is_the_set_of_maximal_dots(steps: list) -> None:
    """After every message the frontier holds exactly the dots of the room nothing comes after."""
    story = Story(steps)
    stamps = {message.dot: message.stamp for message in story.said}
    frontiers: dict[str, Frontier] = {room: {} for room in ROOMS}
    for count, message in enumerate(story.said, 1):
        advance(frontiers[message.room], message)
        so_far = [m.dot for m in story.said[:count]]

        assert {
            dot.log: Edge(dot.seq, stamps[dot]) for dot in story.maximal(so_far, message.room)
        } == frontiers[message.room]


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
    for message in (first, second, reply):
        advance(frontier, message)

    assert {
        log_of("ann"): Edge(2, second.stamp),
        log_of("bob"): Edge(1, reply.stamp),
    } == frontier


def test_it_notes_whose_edges_came_or_went() -> None:
    """The covered ones with the seqs they had, and the message's own; of others nothing."""
    story = Story()
    ann, bob, dan = (story.say(author) for author in ("ann", "bob", "dan"))
    frontier: Frontier = {}
    for message in (ann, bob, dan):
        advance(frontier, message)
    story.hear("cyd", ann, bob)
    moved: dict[bytes, int] = {log_of("eve"): 7}
    advance(frontier, story.say("cyd"), moved)

    assert {log_of("ann"): 1, log_of("bob"): 1, log_of("cyd"): 1, log_of("eve"): 7} == moved
