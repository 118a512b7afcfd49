"""Messages as they are cut from their blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.dots import Dot
from flc_udp.model.message import Message, history_key
from flc_udp.model.past import Past
from tests.model.stories import Story, counts, log_of, steps

bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.binary(max_size=9)


@given(st.lists(bodies, min_size=1, max_size=40), st.integers(0, 3))
def test_a_block_gives_its_bodies_as_messages(said: list[str | bytes], before: int) -> None:
    """Numbered one after another from the block's first, each with what they share."""
    story = Story()
    for _ in range(before):
        story.say("ann")
    block = story.say("ann", "ops", *said)
    messages = list(block.messages())

    assert said == [message.body for message in messages]
    assert list(range(before + 1, before + 1 + len(said))) == [m.seq for m in messages]
    assert (block.first, block.last) == (messages[0].seq, messages[-1].seq)
    assert block.dot == messages[0].dot
    for name in ("log", "room", "author", "wall", "stamp"):
        assert {getattr(block, name)} == {getattr(message, name) for message in messages}


def test_only_the_first_message_of_a_block_has_its_causes() -> None:
    """Each other one follows the message before it, which is never named."""
    story = Story()
    story.hear("bob", story.say("ann", "lobby", "a", "b"))
    first, second, third = story.say("bob", "lobby", "1", "2", "3").messages()

    assert (Dot(log_of("ann"), 2),) == first.causes
    assert () == second.causes == third.causes


def test_history_sorts_by_stamp_then_log_then_seq() -> None:
    """The converged order; the messages of one block, which share a stamp, keep theirs."""
    story = Story()
    ann, bob = story.say("ann", "lobby", "1", "2"), story.say("bob")
    message = next(ann.messages())
    messages = [*bob.messages(), *list(ann.messages())[::-1]]

    assert (ann.stamp, log_of("ann"), 1) == history_key(message)
    assert [(log_of("ann"), 1), (log_of("ann"), 2), (log_of("bob"), 1)] == [
        m.dot for m in sorted(messages, key=history_key)
    ]


@given(steps, counts)
def test_history_respects_causality(steps: list, counts: list[int]) -> None:
    """No message stands before one that it comes after, whatever shares a block."""
    story = Story(steps, counts)
    ordered = sorted((m for block in story.said for m in block.messages()), key=history_key)
    places = {message.dot: place for place, message in enumerate(ordered)}

    for message in ordered:
        assert all(places[dot] < places[message.dot] for dot in story.past[message.dot])


def test_a_message_comes_after_those_before_it_in_its_block() -> None:
    """Their clocks say so, and that all of them come after the block's causes."""
    story = Story()
    ann = story.say("ann")
    story.hear("bob", ann)
    past = Past()
    cause, first, second = (
        past.pass_over(m) for block in (ann, story.say("bob", "lobby", "1", "2"))
        for m in block.messages()
    )  # fmt: skip

    assert cause < first < second
    assert {log_of("ann"): 1, log_of("bob"): 2} == second


def test_a_message_is_immutable() -> None:
    """A value."""
    message: Message = next(Story().say("ann").messages())
    with pytest.raises(AttributeError):
        message.seq = 3  # type: ignore[misc]  # what is tried here
