"""Tags as an operator types them, and as they come from others."""

from __future__ import annotations

import pytest

from flc_udp.config import TAGS_BYTES_MAX, TAGS_MAX
from flc_udp.model.errors import Drop, FlcError
from flc_udp.model.tags import Tag, parse_tags, tags_fault

FULL = tuple(Tag(f"{n:02}", "x" * (TAGS_BYTES_MAX // TAGS_MAX - 2)) for n in range(TAGS_MAX))


def test_they_stand_by_their_keys() -> None:
    """Whatever order they are typed in; a value may have what ends a key."""
    assert parse_tags(["role=db", "dc=eu=west", "Ähnlich=☃ x"]) == (
        Tag("dc", "eu=west"),
        Tag("role", "db"),
        Tag("Ähnlich", "☃ x"),
    )


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["role"], "no ="),
        ([""], "no ="),
        (["=db"], "key has 0 bytes"),
        (["role="], "value has 0 bytes"),
        (["role=d\nb"], "control characters"),
        (["role=" + "x" * 129], "129 bytes"),
        (["role=\udcff"], "Unicode"),
        (["role=db", "dc=eu", "role=web"], "'role' is given twice"),
        ([f"{n}=x" for n in range(17)], "17 tags"),
        ([f"{n}={'x' * 102}" for n in range(5)], "515 bytes"),
    ],
)
def test_what_is_no_tag_is_refused_with_a_hint(texts: list[str], words: str) -> None:
    """It names the tag and what is wrong with it."""
    with pytest.raises(FlcError, match=words) as refused:
        parse_tags(texts)

    assert refused.value.hint


def test_what_may_be_typed_is_what_others_take() -> None:
    """To the last byte; one more is refused by both."""
    longer = (*FULL[:-1], FULL[-1]._replace(value=FULL[-1].value + "x"))

    assert parse_tags(map(str, FULL)) == FULL
    assert tags_fault(FULL) is None
    with pytest.raises(FlcError):
        parse_tags(map(str, longer))
    assert tags_fault(longer) is Drop.MEMBER_TAGS_TOO_LONG
