"""What clients have sent and the node still holds: lines, parts of lines, says without an answer.

Rules. All clients share one budget, so many of them cost no more than a few. While there is room in
it a line may be as long as LINE_BYTES_MAX, if it is text and not a multitude of values. When it is
used up, long lines are refused, and a client whose own says take their share of it is not read.
Clients that come, say much and go without waiting for answers are refused at a multiple of it.
"""

from flc_udp.daemon.control.requests import LINE_BYTES_MAX
from flc_udp.daemon.control.values import VALUES_MAX, ValueCount
from flc_udp.model.errors import FlcError

HELD_BYTES_MAX = 32 << 20
"""Room for four of the longest lines. A say that is decided takes two or three times its line."""

LINE_BYTES_FREE = 1 << 16
"""A line of at most this many bytes is taken, however much others have sent."""

REFUSED_TIMES = 4
"""Says are refused when all that is held is this many times HELD_BYTES_MAX."""

SAY_BYTES = 1_024
"""A say takes about this much besides its line."""

HINT = "send it again when the node has answered others; `flc status` tells what it waits for"


class Held:
    """The bytes of requests in memory, over all clients."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self.refused = 0
        """Lines and says that were refused for lack of room."""

    @property
    def is_full(self) -> bool:
        """Whether long lines are refused."""
        return self.used_bytes > HELD_BYTES_MAX

    def take_say(self, line_bytes: int) -> int:
        """Hold a say until it is answered; return what to give back then. Raises FlcError."""
        if self.used_bytes > REFUSED_TIMES * HELD_BYTES_MAX:
            raise self.refusal("a say")
        self.used_bytes += line_bytes + SAY_BYTES
        return line_bytes + SAY_BYTES

    def refusal(self, what: str) -> FlcError:
        """Count a refusal, and make it."""
        self.refused += 1
        return FlcError(f"{what}, and clients have sent {self.used_bytes} bytes already", HINT)


class PartialLine:
    """The parts of a line that have come. One that is refused is so when its end has come."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._parts: list[bytes] = []
        self._values = ValueCount()
        self._kept_bytes = 0
        self.size_bytes = 0
        """The length of what has come, also of what was not kept."""
        self._refusal: FlcError | None = None

    def add(self, part: bytes) -> None:
        """Take a part."""
        self.size_bytes += len(part)
        if self._refusal is None:
            self._keep(part)

    def _keep(self, part: bytes) -> None:
        if self.size_bytes > LINE_BYTES_MAX:
            self.drop()
            self._refusal = FlcError("a line is too long", f"{LINE_BYTES_MAX} bytes are allowed")
        elif self.size_bytes > LINE_BYTES_FREE and self._held.is_full:
            self.drop()
            self._refusal = self._held.refusal("a line is long")
        else:
            self._values.add(part)
            if self._values.count > VALUES_MAX:
                self.drop()
                self._refusal = FlcError("a line has too many values", f"{VALUES_MAX} are allowed")
                return
            self._parts.append(part)
            self._kept_bytes += len(part)
            self._held.used_bytes += len(part)

    def end(self) -> bytes:
        """Give the line, and begin another one; raises FlcError."""
        line, refusal = b"".join(self._parts), self._refusal
        self.drop()
        self.size_bytes, self._refusal, self._values = 0, None, ValueCount()
        if refusal is not None:
            raise refusal
        return line

    def drop(self) -> None:
        """Hold nothing of it."""
        self._held.used_bytes -= self._kept_bytes
        self._parts, self._kept_bytes = [], 0


class SentLines:
    """What one client has sent: lines that wait for their turn, and the beginning of the next."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._data, self._at = b"", 0
        """What came, and how much of it had its turn."""
        self._partial = PartialLine(held)

    @property
    def wait(self) -> bool:
        """Whether anything has not had its turn."""
        return self._at < len(self._data)

    def add(self, data: bytes) -> None:
        """Take what came."""
        self._data, self._at = self._data[self._at :] + data, 0
        self._held.used_bytes += len(data)

    def next(self) -> bytes | None:
        """Give the next line; raises FlcError. None: its end has not come, and nothing waits."""
        end = self._data.find(b"\n", self._at)
        if end < 0:
            self._partial.add(self._pass(len(self._data), 0))
            return None
        line = self._pass(end, 1)
        if self._partial.size_bytes:
            self._partial.add(line)
            return self._partial.end()
        return line

    def _pass(self, end: int, more: int) -> bytes:
        passed = self._data[self._at : end]
        self._held.used_bytes -= len(passed) + more
        self._at = end + more
        if not self.wait:
            self._data, self._at = b"", 0
        return passed

    @property
    def has_begun(self) -> bool:
        """Whether part of a line had its turn."""
        return self._partial.size_bytes > 0

    def last(self) -> bytes:
        """Give what has begun; raises FlcError."""
        return self._partial.end()

    def drop(self) -> None:
        """Hold nothing of it."""
        self._held.used_bytes -= len(self._data) - self._at
        self._data, self._at = b"", 0
        self._partial.drop()
