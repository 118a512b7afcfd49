"""Lines of JSON, as every part of a node and of its client reads and writes them.

Rules. JSON is strict: UTF-8 without a byte order mark, no NaN, and no half of a surrogate pair. Of
two equal keys the last counts. A whole number that 64 bits cannot hold is read as a float. Whatever
was read can be written again, so that the `id` of a request can always be sent back.
"""

from typing import Any

import orjson

LEVELS_MAX = 254


def compact(value: object) -> bytes:
    r"""Write JSON without spaces, in unescaped UTF-8, with the keys in their order.

    Text that is no Unicode, as the name of a file may be, looks like `caf\udce9` in it.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_as_unicode(value))


def read_json(line: bytes) -> Any:  # noqa: ANN401  # whatever stands in the line
    """Read the value of a line; raises ValueError, which says what is wrong and where."""
    value = orjson.loads(line)
    # It reads 1,024 levels and writes 254; `repr` fails between them.
    if line.count(b"[") + line.count(b"{") > LEVELS_MAX:
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise ValueError("it is nested too deeply") from error
    return value


def _as_unicode(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_as_unicode(key): _as_unicode(item) for key, item in value.items()}
        case list() | tuple():
            return [_as_unicode(item) for item in value]
    return value
