"""People who number what they say, as `flc nc` and bots do, and repeat what has no answer.

A client says at one machine, and may say more before it has an answer. What is refused, what is not
answered in time and what a crash took the answer of, it says again under the same numbers, in other
groups. It gives a number up only where it is told that the number is forgotten.
"""

from itertools import count, takewhile
from random import Random

from flc_udp.model.dots import Dot
from flc_udp.model.units import MS_US
from flc_udp.sim.heap import Heap
from flc_udp.sim.machine import Machine, Uttered
from flc_udp.waist.node import Node
from flc_udp.waist.says import Forgotten, WaitFor

PATIENCE_MS = 1_500
"""A client waits this long for an answer, on average, before it says the same again."""

PAUSE_MS = 300
"""After a refusal a client waits this long, on average."""

GROUP_MAX = 8
"""Clients say at most so many messages at once."""

OPEN_MAX = 64
"""A client that waits for so many answers says nothing new."""

WAIT_SHARE = 0.1
"""This share of what is said waits for other nodes."""

WAIT_MS_MAX = 3_000


class Repeater:
    """One of them."""

    def __init__(self, name: str, machine: Machine, heap: Heap, random: Random) -> None:
        self.name = name
        self.open: dict[int, tuple[str, str]] = {}
        """{number: (room, body)} of what has no answer yet."""
        self._machine = machine
        self._heap = heap
        self._random = random
        self._numbers = 0
        self._node: Node | None = None
        self._connection = 0
        self._sent = 0
        """The greatest number that was said over this connection."""
        self._is_paused = False

    def speak(self, room: str, bodies: list[str]) -> None:
        """Say something new."""
        if len(self.open) < OPEN_MAX:
            for body in bodies:
                self._numbers += 1
                self.open[self._numbers] = room, body
            self._send()

    def _send(self) -> None:
        """Say what was not said yet over this connection, or wait for some answers first."""
        if self._node is not self._machine.node:  # It crashed meanwhile, or has started.
            self._node = self._machine.node
            self._connect()
        while self._node is not None and not self._is_paused:
            waiting = [n for n in self.open if n > self._sent]
            is_awaited = len(waiting) < len(self.open)
            if not waiting or (is_awaited and self._random.random() < 1 / 2):
                return
            self._say(waiting[: self._random.randint(1, GROUP_MAX)])

    def _say(self, numbers: list[int]) -> None:
        first, room = numbers[0], self.open[numbers[0]][0]
        # What is between them has its answer already.
        group = [n for n, other in zip(numbers, count(first), strict=False) if n == other]
        group = list(takewhile(lambda n: self.open[n][0] == room, group))
        self._sent = group[-1]
        connection = self._connection

        def hear(say: Uttered) -> None:
            if connection == self._connection:
                self._hear(say)

        def lose_patience() -> None:
            if connection == self._connection and group[0] in self.open:
                self._begin_anew(0)

        self._heap.after(self._some(PATIENCE_MS), lose_patience)
        wait, timeout_ms = draw_wait(self._random)
        bodies = [self.open[n][1] for n in group]
        once = self.name, group[0]
        self._machine.say(room, *bodies, once=once, wait=wait, timeout_ms=timeout_ms, then=hear)

    def _hear(self, say: Uttered) -> None:
        answers = {said.once[1]: said.answer for said in say.utterances if said.once is not None}
        for n, answer in answers.items():
            if isinstance(answer, Dot | Forgotten):
                self.open.pop(n, None)
        if self.open.keys() & answers.keys():
            self._begin_anew(self._some(PAUSE_MS))
        else:
            self._send()

    def _begin_anew(self, pause_us: int) -> None:
        """Say everything that has no answer again, a little later."""
        self._connect()
        self._is_paused = True
        self._heap.after(pause_us, self._go_on)

    def _connect(self) -> None:
        self._connection += 1
        self._sent = 0

    def _go_on(self) -> None:
        self._is_paused = False
        if self._machine.node is None:
            self._begin_anew(self._some(PAUSE_MS))
        else:
            self._send()

    def _some(self, mean_ms: int) -> int:
        return int(self._random.expovariate(1 / mean_ms) * MS_US)


def draw_wait(random: Random) -> tuple[WaitFor | None, int]:
    """Whom a say waits for, and for how many ms."""
    if random.random() >= WAIT_SHARE:
        return None, 0
    return random.choice((1, 2, "all")), random.randint(0, WAIT_MS_MAX)
