"""Bounds: what a node keeps in memory stays within its limits, at each turn.

Rules. The limits are the node's settings and the constants of those who keep the things. Queues are
looked at after each turn. The facts, which cost more the more members there are, are looked at
after some.
"""

from flc_udp.config import Settings
from flc_udp.core.repair.catch_up import PEERS_MAX
from flc_udp.core.repair.healing import ROTTEN_MAX
from flc_udp.core.repair.pieces import PARTIAL_BYTES_MAX
from flc_udp.core.repair.wants import PULLS_MAX
from flc_udp.sim.violation import Violation
from flc_udp.waist.inbox import INBOX_MAX
from flc_udp.waist.node import Node
from flc_udp.waist.replays import WAITING_MAX

TURNS = 16
"""The facts are looked at after so many turns."""

POST_BLOCKS_MAX = 64
"""One post is decided as so many blocks, at most."""


class Bounds:
    """What one node after another keeps on a machine."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns = 0

    def look(self, node: Node, settings: Settings) -> None:
        """A turn is over. Raises Violation."""
        queued = node.queued()
        self._demand("inbox", queued["inbox"], INBOX_MAX)
        self._demand("replays", queued["replays"], WAITING_MAX)
        self._demand("pulls", queued["pulls"], PULLS_MAX + PEERS_MAX)
        # What was held back may all be decided in the turn in which the limit is met.
        own = POST_BLOCKS_MAX * queued["posts"]
        self._demand("uncommitted", queued["uncommitted"], 2 * settings.holdback_blocks_max + own)
        self._turns += 1
        if self._turns % TURNS == 0:
            facts = node.facts()
            repair = facts.repair
            self._demand("holdback", repair.holdback_blocks, settings.holdback_blocks_max)
            self._demand("holdback bytes", repair.holdback_bytes, settings.holdback_bytes_max)
            self._demand("bytes of pieces", repair.pieces_bytes, PARTIAL_BYTES_MAX)
            self._demand("rotten blocks", len(repair.rotten), ROTTEN_MAX)
            self._demand("members", len(facts.members), settings.members_max)

    def _demand(self, what: str, number: int, limit: int) -> None:
        if number > limit:
            raise Violation(f"{self._name}: {what}: {number}, and the limit is {limit}")
