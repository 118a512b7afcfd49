r"""Text of others, shown so that it can neither drive or fill a terminal nor hide anything.

Rules. All that is remote passes here before people see it: names, rooms, bodies and reasons. What
is not seen, or moves or reorders what is seen, is shown as its escape: ESC as ␛, U+200B as \u200b.
So two names that look alike are alike, but for letters that look like others.
"""

import re
import reprlib
from collections.abc import Sequence

NOT_SEEN = (
    "\x00-\x08\x0a-\x1f\x7f-\x9f"  # controls, but for the tab
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: reorder what stands in the same line
    "\u2028\u2029"  # end a line or a paragraph
    "\u00ad\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # zero width
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0"  # fillers
    "\ufe00-\ufe0f\U000e0000-\U000e0fff"  # variation selectors and tags
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # shorthand and music
)
"""The inside of a class of a regular expression: Unicode's Default_Ignorable_Code_Point, and what
is as invisible besides."""

BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""They look like a space in a name. In a body they are what somebody meant to write."""

SEEN = rf"[^\x00-\x7f{NOT_SEEN}]"
"""A character besides ASCII that is seen."""

JOINED = rf"(?<={SEEN})[\u200c\u200d](?={SEEN})|(?<=\ufe0f)\u200d(?={SEEN})"
CHOSEN = rf"(?<={SEEN})[\ufe0e\ufe0f]|\ufe0f(?=\u20e3)"
"""Joiners in Persian or in the picture of a family, and the choice of a picture, as ❤️ is one."""

PICTURES = {chr(code): chr(0x2400 + code) for code in range(0x20)} | {"\x7f": "\u2421"}
"""How the controls of ASCII are shown."""

NAMED_MOST = 3
"""A line names at most this many members or messages, unless it says otherwise."""

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80

IN_NAMES = re.compile(f"[{NOT_SEEN}{BLANKS}]")
IN_BODIES = re.compile(f"(?!{JOINED}|{CHOSEN})[{NOT_SEEN}]")
IN_JSON = re.compile(f"[{NOT_SEEN}]")


def visible(text: str) -> str:
    """Make everything that is not seen visible, but the tab: for names, and lines with names."""
    return IN_NAMES.sub(_form, text)


def visible_body(text: str) -> str:
    """Make a body visible. Blanks and joiners pass where a language or a picture needs them."""
    return IN_BODIES.sub(_form, text)


def visible_json(line: str) -> str:
    """Escape what is not seen in the strings of a line of JSON, which then says the same."""
    return IN_JSON.sub(_json_form, line)


def brief(value: object) -> str:
    """A value as an error shows it: what was sent may be megabytes, and a line tells enough."""
    return _BRIEF.repr(value)


def some_of(names: Sequence[str], count_max: int = NAMED_MOST) -> str:
    """The first of the names and how many more there are, or that there is none."""
    more = len(names) - count_max
    return ", ".join(names[:count_max]) + (f" and {more} more" if more > 0 else "") or "nobody"


def _form(found: re.Match[str]) -> str:
    return PICTURES.get(found[0]) or found[0].encode("unicode_escape").decode()


def _json_form(found: re.Match[str]) -> str:
    units = memoryview(found[0].encode("utf-16-le")).cast("H")
    return "".join(f"\\u{unit:04x}" for unit in units)
