"""How many values a line of JSON has, counted while its parts come in, before it is read.

Rules. JSON is read in one go, and the loop does nothing else meanwhile. 8 MB of text take 15 ms,
but 8 MB of `[],[],…` half a second. So a long line may have much text, and only so many values.
"""

from flc_udp.daemon.control.requests import BODIES_A_SAY

VALUES_MAX = 4 * BODIES_A_SAY
"""A long line has at most this many values: enough for as many bodies as a say may have, and each
of them as base64 in an object of its own."""

OTHER_BYTES = bytes(set(range(256)) - set(b'",[{'))
"""What begins no value and no text."""


class ValueCount:
    """The values of a line that comes in parts."""

    def __init__(self) -> None:
        self.count = 0
        self._is_in_text = False
        self._escape = b""

    def add(self, part: bytes) -> None:
        """Count what begins in a part. Of what is not JSON, any number may come out."""
        part = (self._escape + part).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._escape = b"\\" if part.endswith(b"\\") else b""
        pieces = part.translate(None, OTHER_BYTES).split(b'"')
        # What stands between quotes is text, and every other piece is not.
        self.count += sum(map(len, pieces[self._is_in_text :: 2]))
        self._is_in_text ^= len(pieces) % 2 == 0
