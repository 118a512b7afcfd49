"""JSON as it is read and written everywhere."""

import json
from enum import StrEnum
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.model.json_lines import compact, read_json

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | texts
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(texts, v))


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    one: int
    other: int


@given(values)
def test_lines_are_those_of_the_standard_library(value: object) -> None:
    """Byte for byte, so hashes of lines from earlier versions stay right; and it reads them."""
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    assert compact(value) == line
    assert read_json(line) == value


@given(st.recursive(st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_text_that_is_no_unicode_is_written(value: object) -> None:
    """Whatever a file is called, its name can be told, and any reader takes the line."""
    assert json.loads(compact(value).decode()) is not None


def test_how_text_that_is_no_unicode_looks() -> None:
    """Only the bytes that are no text change; what is beside them stays."""
    record = {"path": "/né/caf\udce9", "more": [(1, "\ud800"), None], "\udcff": 1.5}

    assert read_json(compact(record)) == {
        "path": r"/né/caf\udce9",
        "more": [[1, r"\ud800"], None],
        r"\udcff": 1.5,
    }


def test_keys_and_tuples_of_our_own_types() -> None:
    """An enum's text is a text, and a named tuple an array."""
    assert compact({Colour.RED: Colour.RED, "b": Pair(1, 2)}) == b'{"red":"red","b":[1,2]}'


def test_what_is_no_json_is_our_fault() -> None:
    """Bytes and objects are not written as something else."""
    for value in (b"x", object(), {1: 2}):
        with pytest.raises(TypeError):
            compact(value)


@pytest.mark.parametrize(
    "line",
    [b"", b" ", b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b'"\xff"', b"\xef\xbb\xbf1", b"1 2"],
)
def test_what_is_no_json_is_refused(line: bytes) -> None:
    """As a ValueError, which says why."""
    with pytest.raises(ValueError, match=r"\w"):
        read_json(line)


def test_what_is_read_can_be_written_and_shown() -> None:
    """So nothing that is quoted or sent back is nested too deeply for that."""
    deepest = b"[" * 254 + b"]" * 254

    assert repr(read_json(deepest)).encode() == compact(read_json(deepest)) == deepest
    for line in (b"[%b]" % deepest, b'{"a":' * 1_000 + b"1" + b"}" * 1_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(line)
