"""Who has proved a session and an address, and what is remembered of sessions that were let go.

Rules. A session belongs to the node that proved it. A node has at most two sessions here, because
one that was restarted has a new one, and what it sent before may still be on its way. Of a session
that is let go, the greatest counter is remembered for a while, so the recorded proof of it is worth
nothing.
"""

from collections import OrderedDict
from collections.abc import Container, Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flc_udp.model.address import Address
from flc_udp.model.dots import VISITOR, NodeId
from flc_udp.model.units import Micros
from flc_udp.waist.replay_window import ReplayWindow
from flc_udp.wire.seal import Opened

PROVED_MAX = 16_384
"""This many sessions may be proved. Beyond it the one that was silent for the longest time is let
go, and proves itself again when it is heard. With their windows they take about 40 MB."""

SESSIONS_A_NODE = 2

ADDRESSES_A_SESSION = 4
"""A sender that is behind a translator or has several networks may be seen at so many addresses."""


class Proved:
    """One session of somebody who has proved it."""

    __slots__ = ("address", "addresses", "ciphers", "heard_at", "node", "window")

    def __init__(
        self, node: NodeId, window: ReplayWindow, ciphers: dict[bytes, AESGCM], now: Micros
    ) -> None:
        """`ciphers` are its keys, by the id of the cluster's key."""
        self.node = node
        self.window = window
        self.ciphers = ciphers
        self.heard_at = now
        self.address: Address | None = None
        """The one that was proved last."""
        self.addresses: dict[Address, None] = {}


class ProvedSessions:
    """The sessions that were proved, in the order in which they were heard."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, Proved] = OrderedDict()
        self._of_node: dict[NodeId, list[bytes]] = {}
        self._at: dict[Address, NodeId] = {}
        self._gone: dict[bytes, int] = {}
        self._gone_before: dict[bytes, int] = {}
        self.get = self._sessions.get
        """Find the session with this id. None: nobody has proved it."""

    def __len__(self) -> int:
        return len(self._sessions)

    def heard(self, session: bytes, proved: Proved, address: Address, now: Micros) -> None:
        """A datagram of this session was taken, from this address of it."""
        proved.heard_at = now
        self._at[address] = proved.node
        self._sessions.move_to_end(session)

    def addresses(self) -> Iterator[Address]:
        """The addresses that nodes have proved, those of the session that was heard last first."""
        for proved in reversed(self._sessions.values()):
            if proved.node != VISITOR:
                yield from proved.addresses

    def node_at(self, address: Address) -> NodeId | None:
        """Who has proved this address last, or was heard from there since."""
        return self._at.get(address)

    def counter_of(self, session: bytes) -> int:
        """The greatest counter of a session that was let go lately, else 0."""
        return max(self._gone.get(session, 0), self._gone_before.get(session, 0))

    def add(self, opened: Opened, cipher: AESGCM, node: NodeId, now: Micros) -> Proved:
        """This datagram has proved its session."""
        session = opened.session
        proved = Proved(node, ReplayWindow(opened.counter, now), {opened.key_id: cipher}, now)
        self._sessions[session] = proved
        if node != VISITOR:
            own = self._of_node.setdefault(node, [])
            if len(own) == SESSIONS_A_NODE:
                self._let_go(min(own, key=lambda session: self._sessions[session].heard_at))
            own.append(session)
        if len(self._sessions) > PROVED_MAX:
            self._let_go(next(iter(self._sessions)))
        return proved

    def add_address(self, proved: Proved, address: Address) -> None:
        """This session has proved this address, too."""
        proved.address = address
        proved.addresses.pop(address, None)
        proved.addresses[address] = None
        if len(proved.addresses) > ADDRESSES_A_SESSION:
            self._forget_address(proved, next(iter(proved.addresses)))
        self._at[address] = proved.node

    def _let_go(self, session: bytes) -> None:
        proved = self._sessions.pop(session)
        self._gone[session] = proved.window.top
        for address in list(proved.addresses):
            self._forget_address(proved, address)
        if proved.node != VISITOR:
            own = self._of_node[proved.node]
            own.remove(session)
            if not own:
                del self._of_node[proved.node]

    def _forget_address(self, proved: Proved, address: Address) -> None:
        del proved.addresses[address]
        if self._at.get(address) == proved.node:
            del self._at[address]

    def keep_keys(self, ids: Container[bytes]) -> None:
        """Open nothing any more under keys of the cluster that have other ids."""
        for proved in self._sessions.values():
            kept = {key: cipher for key, cipher in proved.ciphers.items() if key in ids}
            proved.ciphers = kept

    def forget_gone(self) -> None:
        """Forget the counters that were here at the last call of this already."""
        self._gone_before, self._gone = self._gone, {}
