"""What a broken or hostile member might send: payloads and control lines, most of them odd.

A payload begins as packets in which all fields are right, made of a table of values or heard from
the nodes themselves, and then some of it is changed: a value, a list, the bytes. The blocks in it
are of authors that no node is, and some of them are damaged. No block has two contents: of a log
that is forked each node keeps what it heard first, and this fuzz claims that all nodes agree.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

import msgpack

from flc_udp.model.dots import VISITOR
from flc_udp.wire import codec
from flc_udp.wire.codec import FORMS
from flc_udp.wire.packets import KIND_OF, Packet, Piece, Replay, Rumor
from flc_udp.wire.rows import NUMBER_LIMIT, MemberRow
from tests.daemon.control.test_odd_requests import ODD, OPS
from tests.model.stories import AUTHORS, Story
from tests.wire.odd_values import LONG, NUMBERS, PAYLOAD_BYTES, fitting, values

JUNK: tuple[Any, ...] = (None, True, -1, 0, 1.5, "", "x", b"", bytes(8), [], [[]], {}, 1 << 63)

WITH_BLOCKS = frozenset(KIND_OF[kind] for kind in (Rumor, Replay, Piece))
"""Their bytes are not flipped, and none are taken from nodes: that would make a second content."""

HEARD_MAX, BLOCKS = 512, 100


class Payloads:
    """An endless supply; the seed and what was heard decide each."""

    def __init__(self, random: Random, ids: Sequence[bytes], row: MemberRow, wall: int) -> None:
        """`ids` are those of nodes and logs, `row` is the sender's own, and `wall` is now in ms."""
        self.random = random
        self._me = row.id
        self._senders = [row.id] * 8 + [VISITOR, *ids]
        self._heard: deque[list[Any]] = deque(maxlen=HEARD_MAX)
        said = self._story(wall)
        logs = list(dict.fromkeys(block.log for block in said))
        pool = values([*ids, VISITOR, b""], row, logs)
        pool += [flipped(random, b.encoded) if random.random() < 1 / 8 else b.encoded for b in said]
        self._places = {
            kind: [fitting(form, pool) for form in struct.fields.values()]
            for kind, struct in FORMS.items()
        }

    def _story(self, wall: int) -> list[Any]:
        """What authors said who are in this fuzz alone; each heard some of what others said."""
        random, story = self.random, Story()
        authors = [f"{name}{random.randrange(10**4):04}" for name in AUTHORS]
        for _ in range(BLOCKS):
            author = random.choice(authors)
            if story.said and random.random() < 1 / 2:
                story.hear(author, random.choice(story.said[-9:]))
            story.say(author, "fuzz", "x" * random.choice((1, 9, 99, 3_000)), wall=wall)
        return story.said

    def hear(self, payload: bytes) -> None:
        """A node sent this: its packets, changed, are sent to others."""
        self._heard.extend(
            packet for packet in msgpack.unpackb(payload)[1:] if packet[0] not in WITH_BLOCKS
        )

    def next(self) -> bytes:
        """One payload."""
        random = self.random
        packets = [self._packet() for _ in range(random.choice((1, 1, 1, 2, 5)))]
        tree = [self._me, *packets]
        if random.random() < 1 / 8:
            tree[0] = random.choice(self._senders)
        for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
            self._change(tree)
        payload: bytes = msgpack.packb(tree)
        luck = random.random()
        if luck < 1 / 16:
            at = random.randrange(len(payload))
            payload = random.choice((payload[:at], payload[at:], payload + payload[at:]))
        elif luck < 1 / 8 and not any(packet[0] in WITH_BLOCKS for packet in packets):
            payload = flipped(random, payload)
        return payload[:PAYLOAD_BYTES]

    def near(self, packet: Packet) -> bytes:
        """A payload that has this packet, with one of its fields changed."""
        fields = list(codec.fields_of(packet))
        at = self.random.randrange(1, len(fields))
        if at > 1 or self.random.random() < 1 / 8:  # A wrong nonce answers nothing.
            place = self._places[KIND_OF[type(packet)]][at - 1]
            fields[at] = self.random.choice((self._other(fields[at]), self._one_of(place)))
        payload: bytes = msgpack.packb([self._me, fields])
        return payload

    def _packet(self) -> list[Any]:
        random = self.random
        if self._heard and random.random() < 1 / 2:
            packet = random.choice(self._heard)
            return list(packet)
        kind = random.choice(list(self._places))
        fields = (self._one_of(place) for place in self._places[kind])
        return [kind, *fields]

    def _one_of(self, place: list[Any]) -> object:
        """One of its values; the very long lists are rare."""
        value = self.random.choice(place)
        if isinstance(value, tuple) and len(value) > 100 and self.random.random() < 7 / 8:
            return value[: self.random.randrange(4)]
        return value

    def _change(self, tree: list[Any]) -> None:
        """One value somewhere in it is another, of the right kind or of none."""
        place, random = tree, self.random
        at = random.randrange(1, len(tree))  # Without its sender most of it would be refused.
        while True:
            inner = place[at]
            if not isinstance(inner, (list, tuple)) or not inner or random.random() < 1 / 8:
                break
            place[at] = place = list(inner)
            at = random.randrange(len(place))
        place[at] = self._other(place[at])

    def _other(self, value: object) -> object:
        """Another value, mostly of the same type."""
        random, others = self.random, JUNK
        match value:
            case bool():
                others = (not value,)
            case int():
                others = ((value + random.choice((-1, 1))) % NUMBER_LIMIT, random.choice(NUMBERS))
            case bytes():
                others = (random.choice(self._senders), value[:-1], value + b"-")
            case str():
                others = ("", "x" * 128, "ü" * 65, "0.0.0.0:7352", "a\0b", value[1:])
            case list() | tuple():
                others = (self._other_list(list(value)),)
        return random.choice(others if random.random() < 3 / 4 else JUNK)

    def _other_list(self, value: list[Any]) -> list[Any]:
        random = self.random
        if value and random.random() < 1 / 64:
            return (value * LONG)[:LONG]
        changed = [value[:0], value * 2, value[1:], value[:-1], [*value, None], value[::-1]]
        return random.choice(changed)


def flipped(random: Random, data: bytes) -> bytes:
    """The same with one to three bits flipped."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


SELDOM = ("log", "follow", "keys")
"""What is long to answer, or changes who is heard."""


def odd_line(random: Random, number: int) -> bytes:
    """One line for the control socket, with its newline: mostly JSON, mostly an op."""
    ops = [op for op in OPS if op not in SELDOM or random.random() < 1 / 16]
    op = random.choice(ops)
    arguments = {name: text for name, text in OPS[op].items() if random.random() < 1 / 2}
    for name in (*OPS[op], "id", "unknown"):
        if random.random() < 1 / 4:
            arguments[name] = random.choice(list(ODD.values()))
    arguments.setdefault("id", str(number))
    parts = [f'"op":{json.dumps(op)}', *(f'"{name}":{text}' for name, text in arguments.items())]
    line = ("{" + ",".join(parts) + "}").encode(errors="surrogatepass")
    luck = random.random()
    if luck < 1 / 16:
        line = line[random.randrange(len(line)) :]
    elif luck < 1 / 8:
        line = flipped(random, line)
    return line + b"\n"
