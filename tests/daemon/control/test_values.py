"""The values of a line are counted before it is read, however its parts come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.daemon.control import values as values_module
from flc_udp.daemon.control.held import Held, PartialLine
from flc_udp.daemon.control.requests import BODIES_A_SAY
from flc_udp.daemon.control.values import VALUES_MAX, ValueCount
from flc_udp.model.errors import FlcError
from flc_udp.model.json_lines import read_json
from tests.daemon.blocks import many
from tests.daemon.wire import Wire

texts = st.text(st.sampled_from('a\\"[{,:]} ü\n'), max_size=8)
anything = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)


def begun(value: object) -> int:
    """How many lists and objects there are, and how many values besides the first in each."""
    if not isinstance(value, dict | list):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(len(inner) - 1, 0) + sum(map(begun, inner))


@given(anything, st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_text_is_no_value_wherever_it_is_cut(
    value: object, is_ascii: bool, sizes: list[int]
) -> None:
    """Quotes, escapes and brackets in a text count for nothing."""
    line, count = json.dumps(value, ensure_ascii=is_ascii).encode(), ValueCount()
    at = turn = 0
    while at < len(line):
        size = sizes[turn % len(sizes)]
        count.add(line[at : at + size])
        at, turn = at + size, turn + 1

    assert count.count == begun(value)
    assert read_json(line) == value or not is_exact(value)


def is_exact(value: object) -> bool:
    """Whether JSON keeps it: great numbers become others."""
    return json.loads(json.dumps(value)) == value and abs(sum(_numbers(value))) < 1 << 53


def _numbers(value: object) -> list[int]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in _numbers(item)]
    return [abs(value)] if isinstance(value, int) else []


@pytest.mark.parametrize("values", [b"[],", b"{},", b"1,", b'"",', b'"a":0,'])
def test_a_line_of_many_values_is_refused_at_its_end(values: bytes) -> None:
    """Nothing of it is held before, it is not read as JSON, and the next line is."""
    held = Held()
    line = PartialLine(held)
    for _ in range(40):
        line.add(values * 2_000)
    assert held.used_bytes == 0
    with pytest.raises(FlcError, match="too many values") as refused:
        line.end()
    assert str(VALUES_MAX) in refused.value.hint
    line.add(b"next")
    assert line.end() == b"next"


def test_the_greatest_say_is_no_multitude() -> None:
    """As many bodies as there may be, each in an object of its own, with all arguments."""
    request = many(*[{"base64": "/w=="}] * BODIES_A_SAY, once=["bot", 1], wait=1, id={"a": [1]})
    count = ValueCount()
    count.add(json.dumps(request).encode())
    assert count.count < values_module.VALUES_MAX


async def test_its_client_is_told_and_goes_on(wire: Wire) -> None:
    """Beside says of the same connection."""
    refused = await wire.ask(b'{"op":"status","x":[' + b"[]," * 500_000 + b"0]}\n")
    assert refused["error"] == "a line has too many values"
    assert (await wire.ask({"op": "say", "room": "ops", "body": ",[{" * 20_000}))["ok"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"op":"log","room":"%b"}',
        b'{"op":"log","since":"%b"}',
        b'{"op":"log","n":["%b"]}',
        b'{"op":"say","room":"ops","body":"x","wait":{"%b":1}}',
        b'{"op":"say","room":"ops","body":"x","once":"%b"}',
        b'{"op":"why","dot":"%b"}',
        b'{"op":"forget","member":"%b"}',
        b'{"op":"sync","peer":"%b"}',
        b'{"op":"%b"}',
        b'{"op":["%b"]}',
        b'{"op":"keys","add":"%b"}',
        b'{"op":"keys","use":"%b"}',
        b"%b",
    ],
)
async def test_an_error_repeats_only_a_little(wire: Wire, line: bytes) -> None:
    """Whatever is wrong in the request, and however long it is."""
    refused = await wire.ask(line % (b"x" * 4_000_000) + b"\n")
    assert refused["ok"] is False
    assert len(refused["error"]) < 300, refused["error"][:1_000]
