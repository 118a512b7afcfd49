"""What nodes say of themselves to others, held against their disks at that very moment.

Rules. A node claims to hold a message in its roots, acks, receipts, haves and digests, and by
sending it in a replay. What it claims is on its disk, or covered by a base that it took. It may
claim less: what is on the disk and not known to be durable yet is told later. Whatever block it
passes on, whole or in pieces, is byte for byte what was said, and its author's disk has it.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import xor

from flc_udp.config import HASH_BYTES, PIECE_BYTES
from flc_udp.model.block import peek_dot
from flc_udp.model.dots import Dot, LogId
from flc_udp.sim.checks import Checks, Follower
from flc_udp.sim.violation import Violation
from flc_udp.wire import codec
from flc_udp.wire.packets import (
    Ack,
    Digest,
    Have,
    Packet,
    Piece,
    Ping,
    Ranges,
    Receipt,
    Replay,
    Rumor,
)
from flc_udp.wire.seal import Keyring, Seal


class ClaimChecks:
    """Reads what nodes send before it is sealed."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._asked: dict[int, dict[LogId, None]] = {}
        """The logs that pings asked about, by their nonce: a ping may be repeated."""

    def look(self, follower: Follower, payload: bytes) -> None:
        """A node is about to send this. Raises Violation."""
        for packet in codec.read(payload)[1]:
            problem = self._problem(follower, packet)
            if problem is not None:
                raise Violation(f"{follower.name} {problem}")

    def _problem(  # noqa: PLR0911  # what each packet claims, on one screen
        self, follower: Follower, packet: Packet
    ) -> str | None:
        """What is wrong with a packet, in words."""
        match packet:
            case Ping() | Ack():
                return self._probe_problem(follower, packet)
            case Ranges(_, 0, hashes):
                parts = range(0, len(hashes), HASH_BYTES)
                root = reduce(xor, (_number(hashes[at : at + HASH_BYTES]) for at in parts))
                return None if root in follower.roots else "tells ranges of what it does not hold"
            case Digest():
                heads = [(Dot(row.log, row.seq), row.hash) for row in packet.rows]
                held = (follower.knows(dot) and self._hash(dot) == digest for dot, digest in heads)
                return None if all(held) else "tells a digest of what it does not hold"
            case Have():
                return self._unheld(follower, packet.dots, "tells")
            case Receipt():
                return self._unheld(follower, [Dot(packet.log, packet.seq)], "gives a receipt for")
            case Rumor() | Replay():
                return self._changed(packet.blocks) or self._unkept(follower, packet)
            case Piece():
                return self._piece_problem(packet)
            case _:
                return None

    def _probe_problem(self, follower: Follower, probe: Ping | Ack) -> str | None:
        if _number(probe.root) not in follower.roots:
            return "tells a root of what it does not hold"
        if isinstance(probe, Ping):
            self._asked.setdefault(probe.nonce, {})[probe.log] = None
            return None
        dots = [Dot(log, probe.held) for log in self._asked.get(probe.nonce, ()) if probe.held]
        is_held = not dots or any(map(follower.knows, dots))
        return None if is_held else f"acks {dots[0]}, which it does not hold"

    def _unheld(self, follower: Follower, dots: Sequence[Dot], verb: str) -> str | None:
        lacking = (dot for dot in dots if not follower.knows(dot))
        dot = next(lacking, None)
        return None if dot is None else f"{verb} {dot}, which it does not hold"

    def _hash(self, dot: Dot) -> bytes | None:
        minted = self._checks.minted.get(dot)
        return None if minted is None else minted.block.hash

    def _changed(self, blocks: Sequence[bytes]) -> str | None:
        """Whether one of these is not what was said."""
        for encoded in blocks:
            dot = peek_dot(encoded)
            minted = None if dot is None else self._checks.minted.get(dot)
            if minted is None:
                return f"sends {dot}, and its author has not committed it"
            if minted.block.encoded != encoded:
                return f"sends {dot}, which has changed"
        return None

    def _unkept(self, follower: Follower, packet: Rumor | Replay) -> str | None:
        dots = map(peek_dot, packet.blocks if isinstance(packet, Replay) else ())
        lacking = (dot for dot in dots if dot not in follower.kept)
        return next((f"replays {dot}, which it does not keep" for dot in lacking), None)

    def _piece_problem(self, piece: Piece) -> str | None:
        dot, at = Dot(piece.log, piece.seq), piece.number * PIECE_BYTES
        minted = self._checks.minted.get(dot)
        if minted is None:
            return f"sends {dot}, and its author has not committed it"
        is_same = minted.block.encoded[at : at + PIECE_BYTES] == piece.data
        return None if is_same else f"sends {dot}, which has changed"


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


class WatchedSeal(Seal):
    """Lets everything that it seals be looked at."""

    def __init__(self, ring: Keyring, look: Callable[[bytes], None], session: bytes) -> None:
        super().__init__(ring, session)
        self._look = look

    def close(self, payload: bytes, receiver: bytes = b"") -> bytes:
        """Seal one payload."""
        self._look(payload)
        return super().close(payload, receiver)
