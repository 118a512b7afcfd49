"""Messages as people and scripts read them."""

import json

import pytest

from flc_udp.wire.message_json import body_record, message_record, rfc3339
from tests.model.stories import Story, log_of


def test_how_it_looks() -> None:
    """Key for key; the second of a block follows the first, and names no causes."""
    story = Story()
    story.hear("bob", story.say("ann"))
    log = log_of("bob").hex()
    first, second = story.say("bob", "ops", "hi", b"\xff", wall=1_700_000_000_123).messages()

    assert message_record(first) == {
        "dot": f"{log}:1",
        "log": log,
        "seq": 1,
        "room": "ops",
        "author": "bob",
        "body": "hi",
        "said_at": "2023-11-14T22:13:20.123Z",
        "stamp": 1_700_000_000_123 << 16,
        "causes": [],
    }
    assert message_record(second) == {
        **message_record(first),
        "dot": f"{log}:2",
        "seq": 2,
        "body": {"base64": "/w=="},
    }


def test_causes_are_dots_of_the_first_message() -> None:
    """As they are typed elsewhere."""
    story = Story()
    story.hear("bob", story.say("ann", "lobby", "a", "b"))
    first, second = map(message_record, story.say("bob", "lobby", "1", "2").messages())

    assert ([f"{log_of('ann').hex()}:2"], []) == (first["causes"], second["causes"])
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
        ((1 << 46) - 1, "4199-11-24T01:22:57.663Z"),
    ],
)
def test_a_moment_is_utc_to_the_millisecond(wall: int, text: str) -> None:
    """From the first that a block may have to the last."""
    assert rfc3339(wall) == text


def test_a_body_shows_which_kind_it_is() -> None:
    """Text is text, and bytes are base64."""
    assert [body_record(body) for body in ("", "hi", b"", b"hi")] == [
        "",
        "hi",
        {"base64": ""},
        {"base64": "aGk="},
    ]
