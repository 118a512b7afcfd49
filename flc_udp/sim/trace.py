"""The trace: one line for each thing that happened, one column for each node.

    time ms     abc
      12.345    S||  says in ops: 'hi'
      13.001    C||  commits 1 from position 1
      13.402    o>|  a to b, 231 bytes: rumor
      13.402    o x  a to c, 231 bytes, down: rumor

Rules. Every line enters the hash, and everything in a line comes from the seed, so one seed has one
hash. Only the last lines are kept. A sealed datagram is opened when its line is printed and not
when it is written, so a line that nobody reads costs next to nothing.
"""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from itertools import groupby
from typing import NamedTuple

from flc_udp.model.errors import Malformed
from flc_udp.sim.heap import Heap
from flc_udp.wire import codec
from flc_udp.wire.packets import TITLE_OF
from flc_udp.wire.seal import SESSION_BYTES, Keyring, Seal

LINES_KEPT = 4_000
HASH_BYTES = 16


class TraceLine(NamedTuple):
    """One thing that happened. `running` has a bit for each node."""

    at: int
    running: int
    node: int
    mark: str
    text: str
    sender: int | None = None
    datagram: bytes = b""


class Trace:
    """The run as lines, which are hashed as they come. `echo` is called with each, if it is set."""

    def __init__(self, heap: Heap, ring: Keyring) -> None:
        self.names: list[str] = []
        self.running = 0
        self.echo: Callable[[str], object] | None = None
        self._heap = heap
        self._hash = blake2b(digest_size=HASH_BYTES)
        self._kept: deque[TraceLine] = deque(maxlen=LINES_KEPT)
        self._opener = Seal(ring, bytes(SESSION_BYTES))

    def learn(self, ring: Keyring) -> None:
        """Open what is sealed under these keys, too, from now on."""
        self._opener.rekey(ring)

    def add(self, node: int, mark: str, text: str) -> None:
        """Something happened at a node."""
        at = self._heap.now
        self._hash.update(f"{at} {node} {mark} {text}\n".encode())
        self._keep(TraceLine(at, self.running, node, mark, text))

    def packet(self, sender: int, node: int, mark: str, fate: str, data: bytes) -> None:
        """A datagram came, or was lost. The last bytes of its seal stand for its contents."""
        at = self._heap.now
        tag = data[-4:].hex()
        self._hash.update(f"{at} {sender} {node} {mark} {fate} {len(data)} {tag}\n".encode())
        self._keep(TraceLine(at, self.running, node, mark, fate, sender, data))

    def _keep(self, line: TraceLine) -> None:
        self._kept.append(line)
        if self.echo is not None:
            self.echo(self._render(line))

    def hash(self) -> str:
        """The hash of all lines so far."""
        return self._hash.hexdigest()

    def tail(self, count: int) -> list[str]:
        """The last lines, under a heading."""
        lines = list(self._kept)[-count:]
        return [self.heading(), *map(self._render, lines)]

    def heading(self) -> str:
        """The line above the columns: the last letter or digit of each node's name."""
        return f"{'time ms':>12}  {''.join(name[-1] for name in self.names)}"

    def _render(self, line: TraceLine) -> str:
        columns = ["|" if line.running >> n & 1 else " " for n in range(len(self.names))]
        text = line.text
        if line.sender is not None:
            columns[line.sender] = "o"
            names = f"{self.names[line.sender]} to {self.names[line.node]}"
            fate = f", {text}" if text else ""
            text = f"{names}, {len(line.datagram)} bytes{fate}: {self._contents(line.datagram)}"
        columns[line.node] = line.mark
        return f"{line.at / 1000:>12.3f}  {''.join(columns)}  {text}"

    def _contents(self, datagram: bytes) -> str:
        try:
            _, packets, _ = codec.read(self._opener.open(datagram).payload)
        except Malformed as error:
            return error.reason
        kinds = (TITLE_OF[type(packet)].replace("-", "_") for packet in packets)
        runs = ((kind, len(list(run))) for kind, run in groupby(kinds))
        return ", ".join(kind if count == 1 else f"{count} {kind}s" for kind, count in runs)
